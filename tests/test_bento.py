"""The Bento: built, installed into a fresh environment from its own requirements, and served."""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

from tests.photographs import COFFEE
from tests.server import ROOT, environment, serving


def test_a_fresh_environment_serves_the_bento(tmp_path: Path) -> None:
    bento = tmp_path / "bento"
    build = [sys.executable, "-m", "bentoml", "build", "--output", "tag", str(ROOT)]
    home = environment(tmp_path / "home")
    tag = subprocess.run(build, env=home, capture_output=True, text=True, check=True).stdout
    name, version = tag.strip().removeprefix("__tag__:").split(":")
    bento = tmp_path / "home" / "bentos" / name / version
    assert (bento / "src/models/efficientnet_lite0/1/model.onnx").is_file()
    assert not (bento / "src/export").exists()
    assert not (bento / "src/tests").exists()
    assert (
        len(list((bento / "src").rglob("LICENSE"))) == 3
    )  # ours and the models', of no environment

    fresh = tmp_path / "venv"
    venv.create(fresh)
    python = str(fresh / "bin" / "python")
    requirements = bento / "env" / "python" / "requirements.txt"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python]
    # not compiled: Python does that with the part of the modules that is used
    install = [*pip, "install", "-q", "--no-compile", "-r", str(requirements)]
    subprocess.run(install, check=True, timeout=600)
    packages = subprocess.run([*pip, "list"], capture_output=True, text=True, check=True).stdout
    assert "torch" not in packages

    with serving(tmp_path, service=str(bento), python=python, cwd=tmp_path) as server:
        answer = server.classify(COFFEE).json()
        assert answer["predictions"][0]["label"] == "espresso"
        assert len(server.client.get("/models").json()["models"]) == 2
