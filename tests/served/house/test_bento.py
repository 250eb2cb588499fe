"""The Bento: built and served in an environment from the lock, which is all that it needs."""

from __future__ import annotations

import shutil
import subprocess
import venv
from importlib.metadata import distribution, distributions
from pathlib import Path

from packaging.requirements import Requirement

from tests.paths import ROOT
from tests.photographs import COFFEE
from tests.server import environment, serving


def pins(path: Path) -> dict[str, set[str]]:
    """The hashes of every requirement of a file."""
    lines = path.read_text().replace("\\\n", " ").splitlines()
    named = [line for line in lines if line.strip() and not line.lstrip().startswith("#")]
    found: dict[str, set[str]] = {}
    for line in named:
        requirement, *hashes = line.split("--hash=")
        found.setdefault(str(Requirement(requirement)), set()).update(map(str.strip, hashes))
    return found


def packages_of(environment: Path) -> Path:
    (packages,) = environment.glob("lib/python*/site-packages")
    return packages


def copy_pip(packages: Path) -> None:
    """Give it ours, compiled as it is: to unpack and compile Python's own takes seconds."""
    ours = Path(str(distribution("pip").locate_file("")))
    for folder in (ours / "pip", *ours.glob("pip-*.dist-info")):
        shutil.copytree(folder, packages / folder.name)


def installed(environment: Path) -> dict[str, str]:
    """The version of every distribution of a virtual environment."""
    found = distributions(path=[str(packages_of(environment))])
    return {each.name.lower(): each.version for each in found}


def test_a_fresh_environment_serves_the_bento(tmp_path: Path) -> None:
    fresh = tmp_path / "venv"
    venv.create(fresh, with_pip=False)
    copy_pip(packages_of(fresh))
    python = str(fresh / "bin" / "python")
    pip = [python, "-m", "pip", "--disable-pip-version-check"]
    lock = ROOT / "requirements/serve.lock"
    # what depends on what is looked up below, with the requirements of the Bento
    # not compiled: Python does that with the part of the modules that is used
    locked = [*pip, "install", "-q", "--no-compile", "--no-deps", "--require-hashes"]
    subprocess.run([*locked, "-r", str(lock)], check=True, timeout=600)

    build = [python, "-m", "bentoml", "build", "--output", "tag", str(ROOT)]
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

    requirements = bento / "env" / "python" / "requirements.txt"
    assert pins(requirements) == pins(lock)
    before = installed(fresh)
    subprocess.run(
        [*pip, "install", "-q", "--no-compile", "-r", str(requirements)], check=True, timeout=600
    )
    after = installed(fresh)
    assert after == before
    assert "bentoml" in after
    assert "torch" not in after

    with serving(tmp_path, service=str(bento), python=python, cwd=tmp_path) as server:
        answer = server.classify(COFFEE).json()
        assert answer["predictions"][0]["label"] == "espresso"
        assert len(server.client.get("/models").json()["models"]) == 2
