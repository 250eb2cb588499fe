"""A test that hangs fails: pytest-timeout interrupts it."""

from __future__ import annotations

import signal


def test_this_test_has_a_limit() -> None:
    assert 0 < signal.getitimer(signal.ITIMER_REAL)[0] <= 900
