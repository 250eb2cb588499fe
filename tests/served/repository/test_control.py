"""Operators load and unload models: all workers that share the state follow."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from loadtests.harness import marked
from service.config.settings import Settings
from service.dataplane.dataplane import DataPlane
from tests.unit.repository.test_version_set import states


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("default", "net"):
        marked.add(tmp_path / "models", name, 1)
    return tmp_path / "models"


@asynccontextmanager
async def workers(folder: Path, count: int = 2, **settings: Any) -> AsyncIterator[list]:
    """Several data planes of one service: no worker looks at the repository by itself."""
    common = {"default_model": "default", "threads": 1, "management": True, "watch_seconds": 0}
    common["state"] = folder.parent / "state"
    given = Settings(models=folder, **{**common, **settings})
    planes = [DataPlane(given) for _ in range(count)]
    await asyncio.gather(*(plane.start() for plane in planes))
    try:
        yield planes
    finally:
        await asyncio.gather(*(plane.stop() for plane in planes))


async def test_dead_workers_are_not_waited_for(folder: Path, tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from service.repository import desired_state;"
        f"os.getppid = lambda: {os.getppid()};"
        "desired_state.DesiredState(Path(sys.argv[1])); os.kill(os.getpid(), 9)"
    )
    async with workers(folder) as (one, other):
        command = [sys.executable, "-c", code, str(tmp_path / "state")]
        done = await asyncio.to_thread(subprocess.run, command, timeout=60)
        assert done.returncode == -9
        (files,) = (tmp_path / "state").glob("*/workers")
        assert len(list(files.glob("*.json"))) == 3
        await one.unload("net")
        assert len(list(files.glob("*.json"))) == 2
        assert states(other) == {"1": "unloaded"}
