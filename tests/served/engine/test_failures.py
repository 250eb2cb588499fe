"""What a failed run leads to, by the words that ONNX Runtime and CUDA use."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from service.engine.failures import EXIT_CODE
from tests.paths import ROOT
from tests.photographs import COFFEE
from tests.server import serving, wait_until_ready


def test_a_worker_that_lost_its_device_is_replaced(tmp_path: Path) -> None:
    trigger = tmp_path / "lost"
    with serving(
        tmp_path,
        service="tests.harness.lost_device:ZooService",
        zoo_default_model="lenet5",
        lost_device=trigger,
    ) as server:
        assert server.classify(COFFEE).status_code == 200
        before = server.workers()[0].pid
        trigger.touch()
        with pytest.raises(httpx.TransportError):
            server.classify(COFFEE)
        assert "CUDA failure 700" in server.logged("the device is lost, this process ends")
        wait_until_ready(server)
        assert server.classify(COFFEE).status_code == 200
        assert server.workers()[0].pid != before


def test_the_process_really_ends() -> None:
    code = (
        "import logging; logging.basicConfig()\n"
        "from service.engine.failures import Guard\n"
        "def run(crops): raise RuntimeError('CUDA failure 700: an illegal memory access')\n"
        "try: Guard(run).run([0])\n"
        "finally: print('still here', flush=True)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=dict(os.environ),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == EXIT_CODE
    assert done.stdout == ""
    assert "CRITICAL:zoo.device:the device is lost, this process ends with code 70" in done.stderr
