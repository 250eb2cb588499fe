"""A test that hangs fails, whatever it waits in."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable
from contextlib import suppress

import pytest

from tests import time_limit
from tests.time_limit import TestTookTooLong, limited

SHORT_S = 0.05


def spin() -> None:
    while True:
        with suppress(Exception):
            continue


def wait() -> None:
    threading.Event().wait()


def wait_in_a_loop() -> None:
    asyncio.run(asyncio.Event().wait())


def spin_in_a_loop() -> None:
    async def spinning() -> None:
        spin()

    asyncio.run(spinning())


@pytest.mark.parametrize("hang", [spin, wait, wait_in_a_loop, spin_in_a_loop])
def test_what_hangs_is_ended(hang: Callable[[], None]) -> None:
    with pytest.raises(TestTookTooLong, match=r"longer than 0\.05 s"), limited(SHORT_S):
        hang()


def test_what_ends_in_time_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGALRM)
    with limited(60):
        pass
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0
    assert signal.getsignal(signal.SIGALRM) is before
    monkeypatch.setenv(time_limit.VARIABLE, "7.5")
    assert time_limit.seconds() == 7.5


def test_this_test_has_a_limit() -> None:
    assert 0 < signal.getitimer(signal.ITIMER_REAL)[0] <= time_limit.seconds()
