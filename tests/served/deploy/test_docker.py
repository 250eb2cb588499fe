"""The Dockerfiles, .dockerignore and the health check: what can be held without building an image.

`make image-test` builds and runs them (tests/image).
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from loadtests.harness.server import free_port
from tests.harness.dockerfiles import everywhere, ignores
from tests.paths import ROOT
from tests.served.transports.test_tls import issue
from tests.server import Server, serving

QUICK = {"zoo_default_model": "lenet5", "zoo_load": "used", "zoo_max_batch": 1}


@everywhere
def test_hadolint_finds_nothing(path: Path) -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([hadolint, "--no-color", path], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.needs("git")
def test_an_image_is_built_from_the_embedded_models_and_no_others() -> None:
    ignored = ignores()
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    for name in tracked:
        if name.startswith(("service/", "models/")):
            assert not ignored(Path(name)), name
        if name.startswith(("tests/", "docs/", "export/", ".")):
            assert ignored(Path(name)), name
    for name in (
        ".git/config",
        ".env",
        "models/resnet50/1/model.onnx",
        "service/__pycache__/a.pyc",
    ):
        assert ignored(Path(name)), name


def health(**environment: Any) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("ZOO_", "BENTOML_"))}
    given = {name.upper(): str(value) for name, value in environment.items()}
    return subprocess.run(
        [sys.executable, "-m", "service.healthcheck"],
        cwd=ROOT, env={**clean, **given}, capture_output=True, text=True, timeout=30,
    )  # fmt: skip


def port_of(server: Server) -> int:
    return int(server.url.rpartition(":")[2])


def test_a_service_that_answers_is_healthy(server: Server) -> None:
    for host in ("", "0.0.0.0", "127.0.0.1"):
        done = health(bentoml_port=port_of(server), zoo_host=host)
        assert (done.returncode, done.stderr) == (0, ""), host


def test_a_service_with_tls_is_healthy(tmp_path: Path) -> None:
    files = issue(tmp_path / "files", "127.0.0.1")
    with serving(tmp_path, tls=files.trusting(), **files.settings) as server:
        port = port_of(server)
        assert health(bentoml_port=port, zoo_tls_cert=files.cert).returncode == 0
        assert health(bentoml_port=port).returncode == 1  # plain text is refused
        # where clients need a certificate it is enough that somebody listens
        assert health(bentoml_port=port, zoo_tls_client_ca=files.ca).returncode == 0


def test_a_service_that_is_not_ready_is_unhealthy(tmp_path: Path) -> None:
    broken = tmp_path / "models" / "lenet5" / "1"
    broken.mkdir(parents=True)
    (broken / "manifest.json").write_text("{}")
    settings: dict[str, Any] = {**QUICK, "zoo_models": tmp_path / "models"}
    with serving(tmp_path, ready=503, **settings) as server:
        done = health(bentoml_port=port_of(server))
        assert done.returncode == 1
        assert "/readyz answers 503" in done.stderr


def test_nobody_who_listens_is_unhealthy() -> None:
    port = free_port()
    for extra in ({}, {"zoo_tls_client_ca": "ca.pem"}):
        done = health(bentoml_port=port, **extra)
        assert done.returncode == 1
        assert f"127.0.0.1:{port}: " in done.stderr
        assert "Traceback" not in done.stderr
