"""Tests that need what a machine lacks are skipped in one way, and the summary says why."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import capabilities
from tests.paths import ROOT

FILE = """
import pytest
from service.engine.providers.available import choose

@pytest.mark.needs("openvino")
def test_one(): raise AssertionError

@pytest.mark.parametrize("name", ["cpu", pytest.param("bf16", marks=pytest.mark.needs("bf16"))])
def test_two(name): assert name == "cpu" and choose(("openvino", "cpu")) == ["cpu"]

@pytest.mark.needs("promtool")
def test_three(): raise AssertionError
"""


@pytest.mark.needs("openvino package")
def test_an_intel_machine_shows_what_an_amd_machine_sees(tmp_path: Path) -> None:
    file = tmp_path / "test_file.py"
    file.write_text(FILE)
    plain = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    command = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-p", "no:cacheprovider"]
    command += ["-n", "1"]  # as `make test` does: xdist gives its workers another path
    for unused in ("schemathesis", "hypothesispytest"):  # their imports take most of the time
        command += ["-p", f"no:{unused}"]
    done = subprocess.run(
        [*command, f"--rootdir={tmp_path}", "-c", str(ROOT / "pyproject.toml"), str(file)],
        cwd=ROOT,
        env={**plain, capabilities.HIDING: "openvino,promtool", "CI": "true"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    _, _, summary = done.stdout.partition("what this machine lacks")
    assert re.search(r"1 skipped: needs openvino: openvino cannot be used: its plug-in ", summary)
    assert re.search(r"1 skipped: needs bf16: openvino cannot be used: its plug-in ", summary)
    assert "needs promtool, which CI must have: promtool is " in done.stdout
    assert "1 passed, 2 skipped, 1 error" in summary
