"""Settings of keys, TLS and origins: what is bad stops the start, and no key is ever shown."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from loadtests.harness.server import free_port
from service.config import settings
from tests.paths import ROOT
from tests.server import command, environment


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in settings.Settings.model_fields:
        monkeypatch.delenv(f"ZOO_{name.upper()}", raising=False)


def test_a_bad_key_stops_the_start_without_being_shown(tmp_path: Path) -> None:
    done = subprocess.run(
        command(free_port()),
        cwd=ROOT,
        env=environment(tmp_path, ZOO_API_KEYS="hunter2"),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode != 0
    assert done.stderr.startswith("bad setting ZOO_API_KEYS=***: key 1 is none: ")
    assert done.stderr.count("\n") == 1
    assert "hunter2" not in done.stderr + done.stdout
