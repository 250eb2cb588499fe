"""The calculation of replicas, against queues whose answers are known."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest

from loadtests.benchmarks import capacity
from loadtests.benchmarks.overload import ideal_p99

ONE = capacity.Replica(
    cores=2, peak=100.0, median_ms=20.0, above_ideal=1.0, memory_mb=400.0, ready_s=2.0
)


def test_the_tail_at_the_load_found_is_what_was_asked_for() -> None:
    load = ONE.busiest(60.0)
    assert 0.5 < load < capacity.MOST_LOAD
    assert ONE.p99_ms(load) == pytest.approx(60.0, rel=0.02)
    assert ONE.p99_ms(0.7) == pytest.approx(20.0 * ideal_p99(2, 0.7))
    assert ONE.busiest(1e6) == capacity.MOST_LOAD


def test_replicas_carry_the_rate_when_one_is_lost() -> None:
    for rate in (10.0, 500.0, 1234.0):
        found = capacity.plan(ONE, rate, 60.0, spare=1)
        assert (found["replicas"] - 1) * found["a replica takes, pictures/s"] >= rate
        assert (found["replicas"] - 2) * found["a replica takes, pictures/s"] < rate
        assert found["p99 then, ms"] <= 60.0
        assert found["memory when idle, MB"] == 400.0 * found["replicas"]
        assert found["cores"] == 2 * found["replicas"]


def test_what_is_inside_follows_littles_law() -> None:
    """With hardly any load nobody waits: the rate times the time of one."""
    assert ONE.crops_inside(0.05) == pytest.approx(0.05 * 100 * 0.02, rel=0.05)
    assert ONE.crops_inside(0.9) > ONE.crops_inside(0.5) > 1


def test_a_worse_tail_or_a_shorter_limit_takes_more() -> None:
    count = capacity.plan(ONE, 500.0, 60.0, spare=1)["replicas"]
    assert capacity.plan(ONE, 500.0, 40.0, spare=1)["replicas"] > count
    worse = replace(ONE, above_ideal=1.5)
    assert capacity.plan(worse, 500.0, 60.0, spare=1)["replicas"] > count


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--p99", "1"), "even an idle replica"),
        (("--p99", "150", "--overload", "nowhere.csv"), "nowhere.csv"),
    ],
)
def test_the_command_says_why_it_has_no_plan(
    arguments: tuple[str, ...],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["capacity", "--rate", "500", *arguments])
    assert capacity.main() == 1
    assert words in capsys.readouterr().err
