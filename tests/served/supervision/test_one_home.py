"""What one machine has once: a folder for what a service keeps, and ports."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil

from loadtests.harness.server import free_port
from tests.paths import ROOT
from tests.photographs import COFFEE
from tests.server import command, environment, serving

QUICK: dict[str, Any] = {"zoo_default_model": "lenet5", "zoo_load": "used", "zoo_threads": 1}


def refused(folder: Path, port: int, **settings: Any) -> str:
    """The one line with which a service that cannot start ends."""
    done = subprocess.run(
        command(port),
        cwd=ROOT,
        env=environment(folder, **QUICK, **settings),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    return line


def test_two_services_do_not_share_a_home_and_a_dead_one_is_no_obstacle(tmp_path: Path) -> None:
    home = tmp_path / "bentoml"
    with serving(tmp_path, **QUICK) as server:
        server.classify(COFFEE)
        counted = 'zoo_requests_total{code="ok"'
        assert counted in server.client.get("/metrics").text
        assert refused(home, free_port(), zoo_grpc_port=free_port()) == (
            f"bad setting BENTOML_HOME={home}: another service runs with it (process "
            f"{server.process.pid}), and each needs its own"
        )
        assert counted in server.client.get("/metrics").text  # nobody emptied its folder
        where = environment(home, bentoml_port=server.url.rpartition(":")[2])
        check = [sys.executable, "-m", "service.healthcheck"]
        assert subprocess.run(check, env=where, cwd=ROOT, timeout=60).returncode == 0
        family = psutil.Process(server.process.pid).children(recursive=True)
        server.process.kill()
        with serving(tmp_path, **QUICK) as another:
            assert another.classify(COFFEE).status_code == 200
        psutil.wait_procs(family, timeout=60)


def test_http_and_grpc_need_a_port_each(tmp_path: Path) -> None:
    port = free_port()
    assert refused(tmp_path, port, zoo_grpc_port=port) == (
        f"bad setting ZOO_GRPC_PORT={port}: this is also the port of HTTP, and each needs its own "
        "(0: no gRPC)"
    )
