"""How long the place of a worker that has ended stays empty."""

from __future__ import annotations

import asyncio
import os
import signal
from types import SimpleNamespace
from typing import Any

import pytest

from service.config.settings import Settings
from service.supervision import child
from service.supervision.restarts import (
    LONGEST_SECONDS,
    MOST_AT_START,
    MOST_LATER,
    STEADY_SECONDS,
    Backoff,
    Patience,
)
from service.supervision.supervisor import Supervisor


def test_the_first_is_replaced_at_once_and_a_sound_one_always() -> None:
    backoff = Backoff()
    assert [backoff.seconds(STEADY_SECONDS) for _ in range(9)] == [0.0] * 9
    assert backoff.seconds(1.0) == 0.0
    assert backoff.seconds(1.0) == 1.0
    assert backoff.seconds(STEADY_SECONDS) == 0.0
    assert backoff.seconds(1.0) == 0.0


def test_those_that_never_serve_wait_ever_longer() -> None:
    backoff = Backoff()
    assert [backoff.seconds(None) for _ in range(4)] == [0.5, 1.0, 2.0, 4.0]
    assert max(backoff.seconds(None) for _ in range(2000)) == LONGEST_SECONDS


def test_patience_is_short_at_the_start_and_longer_once_it_has_served() -> None:
    patience = Patience()
    for _ in range(MOST_AT_START):
        assert not patience.over
        patience.failed()
    assert patience.over
    patience.succeeded()
    for _ in range(MOST_LATER):
        assert not patience.over
        patience.failed()
    assert patience.over


@pytest.mark.parametrize(
    ("ended", "status"),
    [(9, 9), (-signal.SIGKILL, 137), (-signal.SIGSEGV, 139), (0, os.EX_SOFTWARE)],
)
def test_the_status_of_a_parent_is_that_of_shells(ended: int, status: int) -> None:
    assert child.code(ended) == status


@pytest.mark.parametrize(("others_serve", "status"), [(True, os.EX_OK), (False, 137)])
async def test_a_place_that_fails_again_and_again_ends_the_service_where_nobody_serves(
    others_serve: bool, status: int
) -> None:
    watcher: Any = SimpleNamespace(numprocesses=2)
    supervisor = Supervisor(Settings(), watcher, None)
    supervisor._stopping = asyncio.Event()
    for _ in range(MOST_LATER):
        supervisor._patience.failed()
    other: Any = SimpleNamespace(ready_at=1.0 if others_serve else None)
    supervisor._serving[1] = other
    victim: Any = SimpleNamespace(pid=7, ready_at=None)
    await supervisor._replace(2, victim, -signal.SIGKILL, Backoff())
    assert supervisor._stopping.is_set() is not others_serve
    assert supervisor._status == status
