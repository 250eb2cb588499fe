"""The exit status of a service that is stopped says whether all that was accepted was answered."""

from __future__ import annotations

import asyncio
import os
import signal
from types import SimpleNamespace
from typing import Any

import pytest

from service.config.settings import Settings
from service.supervision.supervisor import Supervisor


@pytest.mark.parametrize(
    ("served", "ended", "status"),
    [
        (True, 0, os.EX_OK),
        (True, -signal.SIGKILL, 137),
        (True, 3, 3),
        (False, -signal.SIGKILL, os.EX_OK),  # it had accepted nothing: it is killed by us
    ],
)
async def test_a_worker_that_is_lost_at_the_stop_is_in_the_status(
    served: bool, ended: int, status: int
) -> None:
    watcher: Any = SimpleNamespace(numprocesses=1)
    supervisor = Supervisor(Settings(), watcher, None)
    worker: Any = SimpleNamespace(pid=7, ready=asyncio.Event())
    if served:
        worker.ready.set()
    supervisor._left(1, worker, ended)
    assert supervisor._status == status
