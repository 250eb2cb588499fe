"""The comparison of two checkouts: its statistics, with loads whose figures are known."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from loadtests.benchmarks import compare
from loadtests.clients.client import Load
from loadtests.harness import bench


def load(milliseconds: float, seconds: float = 1.0, count: int = 100) -> Load:
    """A slice in which every answer took so long."""
    return Load(seconds, [milliseconds / 1e3] * count, Counter({200: count}))


def test_slices_of_a_round_are_one_sample() -> None:
    found = compare.figures([load(10, seconds=1, count=100), load(30, seconds=3, count=300)])
    assert found["rate"] == pytest.approx(100)
    assert found["p50_ms"] == pytest.approx(30)  # of 400 answers, not the mean of two medians
    assert found["p99_ms"] == pytest.approx(30)


def test_errors_are_no_figures() -> None:
    refused = load(10)
    refused.note(429, 0.001)
    with pytest.raises(RuntimeError, match="429: 1"):
        compare.figures([load(10), refused])
    with pytest.raises(RuntimeError):
        compare.figures([Load(1.0), Load(1.0)])


def test_a_machine_that_slows_down_steadily_favours_neither() -> None:
    turns = []

    def slower(name: str) -> Load:
        turns.append(name)
        return load(10, seconds=1 + 0.1 * len(turns))

    found = compare.take_round(slower)
    assert turns == ["A", "B", "B", "A"]
    assert found["A"] == pytest.approx(found["B"])


def test_ratios_are_those_of_the_same_round() -> None:
    speeds = [100.0, 50.0, 200.0]  # of A; B is a tenth faster in each round
    rounds = [
        {"A": {"rate": speed, "p99_ms": 10.0}, "B": {"rate": 1.1 * speed, "p99_ms": 12.0}}
        for speed in speeds
    ]
    rate, p99 = compare.rows("grpc", rounds, {"connections": 16})
    assert (rate["transport"], rate["figure"], rate["rounds"]) == ("grpc", "rate", 3)
    assert (rate["A"], rate["B"], rate["connections"]) == (100.0, pytest.approx(110), 16)
    for row, ratio in ((rate, 1.1), (p99, 1.2)):
        shown = [row[each] for each in ("B/A", "q1", "q3", "low_95", "high_95")]
        assert shown == pytest.approx([ratio] * 5)


def test_the_interval_of_a_median_holds_the_true_one_as_often_as_it_says() -> None:
    generator = np.random.default_rng(0)
    held = 0
    for _ in range(100):
        low, high = bench.interval(generator.normal(1.0, 0.1, 30).tolist())
        held += low <= 1.0 <= high
    assert 89 <= held <= 99


def test_an_interval_is_narrower_with_more_rounds_and_less_confidence() -> None:
    values = np.random.default_rng(1).normal(1.0, 0.1, 400).tolist()

    def width(count: int, share: float = 0.95) -> float:
        low, high = bench.interval(values[:count], share)
        return high - low

    assert width(400) < width(100) < width(25)
    assert width(25, 0.5) < width(25)
    assert bench.interval(values) == bench.interval(values)
