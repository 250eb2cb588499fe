"""Requests that fail say nothing about how fast the engine computes."""

from __future__ import annotations

from service.engine.admission import Admission


def test_failures_are_no_pace() -> None:
    """Else the next one would be refused: twenty in two seconds would look like a slow engine."""
    now = 100.0
    admission = Admission(1000, lambda crops: None, threads=2, clock=lambda: now)
    permits = [admission.acquire(1) for _ in range(40)]
    for permit in permits[:20]:
        now += 0.09
        permit.release()  # nothing of it was computed
    assert admission.in_use == 20
    admission.acquire(1, 0.5).release()
    for permit in permits[20:36]:  # sixteen that are computed are a pace: 4.5 ms a crop
        now += 0.001
        permit.computed(1)
        permit.release()
    admission.acquire(1, 1.0).release()
