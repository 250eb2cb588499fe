"""The time that a test has: one that hangs fails, with the place where it does.

Without it, a fault by which a test waits for ever would be noticed by whoever waits for the suite.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

VARIABLE = "TEST_SECONDS"
"""Without the prefix of settings, of which the service knows all."""
SECONDS = 900.0
"""Patience with a loaded machine: the longest test takes a minute on a quiet one."""


class TestTookTooLong(BaseException):
    """Raised in a test that runs for longer than it may; no ``except Exception`` keeps it."""

    __test__ = False


def seconds() -> float:
    """How long a test may take."""
    return float(os.environ.get(VARIABLE, SECONDS))


@contextmanager
def limited(most: float) -> Iterator[None]:
    """Raise TestTookTooLong in the block, wherever it is, after ``most`` seconds.

    Only the main thread can be interrupted; elsewhere there is no limit.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ring(number: int, frame: FrameType | None) -> None:
        raise TestTookTooLong(f"the test took longer than {most:g} s ({VARIABLE})")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, most)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
