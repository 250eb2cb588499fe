"""The stop and the death of a worker under load, for some seconds; and that a loss would show."""

from __future__ import annotations

import asyncio
import socket

import pytest

from loadtests import lifecycle
from loadtests.traffic import Outcome, Traffic

GOOD = {
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


def test_nothing_accepted_is_lost() -> None:
    found = lifecycle.measure(2.0, 0.3, peak_s=0.5, zoo_default_model="lenet5", zoo_load="used")
    assert found["stop: answered before SIGTERM"]
    assert found["stop: answered after it"]
    assert found["stop: refused (no connection)"]
    # how soon the rate is back is the benchmark's: other tests may share the cores
    assert lifecycle.failures({**found, "kill: seconds until the rate is back": 0.0}) == []


def test_what_does_not_hold_is_named() -> None:
    assert lifecycle.failures(GOOD) == []
    for name in GOOD:
        assert len(lifecycle.failures({**GOOD, name: 99})) == ("in flight" not in name)


async def test_what_nobody_accepted_counts_by_itself() -> None:
    """The kernel connects while there is room in the queue of a port; its end resets that."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        traffic = Traffic(port, port, [b"a picture"])
        asking = asyncio.ensure_future(traffic.run(50.0))
        await lifecycle.until(lambda: bool(traffic.calls and traffic.busy), 20)
    await lifecycle.until(lambda: bool(traffic.outcome.reset), 20)
    await lifecycle.until(lambda: bool(traffic.outcome.counts["http refused"]), 20)
    traffic.end()
    await asking
    kinds = {kind.split()[1] for kind in traffic.outcome.counts}
    assert kinds <= {"reset", "refused", "lost"}
    assert traffic.outcome.counts["grpc reset"] == len(traffic.outcome.reset)
    assert traffic.outcome.reset
    assert traffic.outcome.counts["http refused"]


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
