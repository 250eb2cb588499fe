"""The swaps under load, for some seconds; and that a mixture would not pass."""

from __future__ import annotations

from loadtests.benchmarks import swaps


def test_swaps_under_load_fail_nothing() -> None:
    traffic, operator = swaps.run(seconds=3, steps=5, connections=8, seed=1)
    assert traffic.failures == []
    assert len(operator.steps_s) == 5
    assert len(traffic.versions) >= 3
    assert traffic.answered > 100
    figures = {row["figure"]: row["value"] for row in swaps.rows(traffic, operator)}
    assert (figures["failed"], figures["swaps"]) == (0, 5)
