"""Three times the peak: that what does not hold would show."""

from __future__ import annotations

from loadtests.benchmarks import sustained
from loadtests.clients import client

GOOD = {
    "accepted, p99 in ms": 990.0,
    "refused (429), p99 in ms": 10.0,
    "neither 200 nor 429 nor 504, share": 0.0,
    "memory of the workers, peak in MB": 900.0,
    "memory ceiling in MB": 1000.0,
    "not answered with 200 in the second after it": 0.0,
}


def test_what_does_not_hold_is_named() -> None:
    assert sustained.failures(GOOD) == []
    for name in GOOD.keys() - {"memory ceiling in MB"}:
        assert len(sustained.failures({**GOOD, name: 2000.0})) == 1, name
    assert len(sustained.failures({**GOOD, "memory ceiling in MB": 1.0})) == 1


def test_what_expires_was_accepted() -> None:
    load = client.Load()
    for _ in range(97):
        load.note(200, 0.5)
    for status, seconds in ((429, 0.001), (504, 1.01), (504, 1.02), (504, 1.03)):
        load.note(status, seconds)
    assert sustained.accepted_p99_ms(load) > 1000
