"""Start, stop and the death of workers, as those notice who run the service or call it."""

from __future__ import annotations

from service.supervision.supervisor import KILL_SECONDS
from service.telemetry.tracing import FLUSH_SECONDS
from service.transports.http.server import LINGER_SECONDS

QUICK: dict[str, object] = {"zoo_default_model": "lenet5", "zoo_load": "used", "zoo_threads": 1}
QUICK["zoo_max_batch"] = 1  # none is learnt


def test_who_waits_for_a_dead_collector_at_the_end_is_not_killed_for_it() -> None:
    assert LINGER_SECONDS + FLUSH_SECONDS < KILL_SECONDS - 1
