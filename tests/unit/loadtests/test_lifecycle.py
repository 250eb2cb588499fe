"""The stop and the death of a worker under load, for some seconds; and that a loss would show."""

from __future__ import annotations

import pytest

from loadtests.benchmarks import lifecycle
from loadtests.clients.traffic import Outcome

GOOD: dict[str, object] = {
    "stop: accepted and lost": 0,
    "stop: exit status": 0,
    "stop: other statuses": 0,
    "kill: other statuses": 0,
    "kill: refused (no connection)": 0,
    "kill: failed": 3,
    "kill: in flight in that worker, or over gRPC": 3,
    "kill: seconds until the rate is back": 0.5,
    "kill: workers at the end": lifecycle.WORKERS,
}


def test_what_does_not_hold_is_named() -> None:
    assert lifecycle.failures(GOOD) == []
    for name in GOOD:
        assert len(lifecycle.failures({**GOOD, name: 99})) == ("in flight" not in name)


def test_when_the_rate_is_back() -> None:
    outcome = Outcome()
    outcome.came_at = [number / 100 for number in range(400)]
    outcome.answered_at = [each + 0.01 for each in outcome.came_at if not 1.0 <= each < 1.5]
    assert lifecycle.back_after(outcome, 1.0) == 0.5
    assert lifecycle.silence(outcome, 1.0) == pytest.approx(0.51)
    with pytest.raises(ValueError, match="too little"):
        lifecycle.back_after(outcome, 3.5)
    outcome.answered_at = [each + 0.01 for each in outcome.came_at]
    assert lifecycle.back_after(outcome, 1.0) == 0.0
