"""A private part of another package that is gone is named at the start."""

from __future__ import annotations

import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest

from loadtests.harness.server import free_port
from tests.paths import ROOT
from tests.server import command, environment

HIDDEN = {
    "bentoml": ("bentoml._internal.utils.circus", "create_standalone_arbiter"),
    "uvicorn": ("uvicorn.protocols.http.httptools_impl", "HttpToolsProtocol._start_asgi_task"),
    "pillow": ("PIL.Image", "core.set_block_size"),
}


@pytest.mark.parametrize("package", HIDDEN)
def test_the_service_does_not_start_without_a_part(package: str, tmp_path: Path) -> None:
    module, name = HIDDEN[package]
    (tmp_path / "sitecustomize.py").write_text(f"import {module}\ndel {module}.{name}\n")
    hidden = environment(tmp_path / "home", pythonpath=tmp_path, zoo_grpc_port=free_port())
    done = subprocess.run(
        command(free_port()), cwd=ROOT, env=hidden, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 1
    lines = [line for line in (done.stdout + done.stderr).splitlines() if "has no" in line]
    assert len(lines) == 1
    assert lines[0].startswith(f"{package} {version(package)} has no {module}.{name}, which the ")
    assert lines[0].endswith("; install the versions of requirements/serve.lock")
    assert "Traceback" not in done.stdout + done.stderr
