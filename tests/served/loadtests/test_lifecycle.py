"""The stop and the death of a worker under load, for some seconds; and that a loss would show."""

from __future__ import annotations

import asyncio
import socket

from loadtests.benchmarks import lifecycle
from loadtests.clients.traffic import Traffic


def test_nothing_accepted_is_lost() -> None:
    # two seconds of traffic must lie behind the kill, on a busy machine too
    found = lifecycle.measure(4.0, 0.3, peak_s=0.5, zoo_default_model="lenet5", zoo_load="used")
    assert found["stop: answered before SIGTERM"]
    assert found["stop: answered after it"]
    assert found["stop: refused (no connection)"]
    # how soon the rate is back is the benchmark's: other tests may share the cores
    assert lifecycle.failures({**found, "kill: seconds until the rate is back": 0.0}) == []


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
