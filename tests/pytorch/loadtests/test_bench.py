"""What the benchmarks share: turns, paired ratios, tables and CSVs; and what some compute."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from export.precision import agreement, calibrate
from loadtests.benchmarks import batching, overload, precision, profile
from loadtests.harness import bench, inprocess
from loadtests.harness.bench import Spread
from models import REPOSITORY

ABOUT = {"processor": "Abacus", "cores": "2 of 4", "python": "3.14"}


class Clock:
    """Goes on only when something is done."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def takes(self, seconds: float, done: Callable[[], object] = lambda: None) -> None:
        self.now += seconds
        done()


def test_a_profile_shares_out_what_the_service_costs() -> None:
    spent = {"http": (4.0, 5.0, 2.0, 0.0, 1.0, 2.0), "grpc": (4.0, 10.0, 4.0, 1.0, 2.0, 3.0)}
    found = {
        transport: {who: [ms] for who, ms in zip(profile.PARTS, parts, strict=True)}
        for transport, parts in spent.items()
    }
    shares = [(row["transport"], row["who"], row["share"]) for row in profile.rows(found)]
    http, grpc = (0.4, 0.5, 0.2, 0.0, 0.1, 0.2), (0.2, 0.5, 0.2, 0.05, 0.1, 0.15)
    assert shares == [
        *zip(["http"] * 6, profile.PARTS, http, strict=True),
        *zip(["grpc"] * 6, profile.PARTS, grpc, strict=True),
    ]


def test_ratios_are_of_the_same_round() -> None:
    # the machine is ten times slower in the last two rounds; medians alone would say 0.2
    rounds = {"ours": [2.0, 2.0, 2.0, 20.0, 40.0], "theirs": [1.0, 1.0, 10.0, 10.0, 10.0]}
    assert bench.paired_ratio(rounds, "ours", "theirs") == Spread(2, 2, 2)
    assert bench.spread([4, 1, 3, 2, 5]) == Spread(3, 2, 4)
    with pytest.raises(ValueError, match="zip"):
        bench.paired_ratio({"ours": [1.0], "theirs": [1.0, 2.0]}, "ours", "theirs")


def test_a_slice_ends_with_the_call_that_fills_it() -> None:
    clock = Clock()
    assert bench.seconds_per_call(lambda: clock.takes(0.3), 1.0, clock) == pytest.approx(0.3)
    assert clock.now == pytest.approx(1.2)  # four calls


def test_contenders_take_turns_and_each_is_first_as_often() -> None:
    clock = Clock()
    calls: list[str] = []
    times = bench.alternate(
        {
            "a": lambda: clock.takes(1.0, lambda: calls.append("a")),
            "b": lambda: clock.takes(2.0, lambda: calls.append("b")),
            "c": lambda: clock.takes(4.0, lambda: calls.append("c")),
        },
        rounds=4,
        slice_s=0.5,
        clock=clock,
    )
    assert "".join(calls) == "abc" + "abc" + "bca" + "cab" + "abc"  # the first warms up
    assert times == {"a": [1.0] * 4, "b": [2.0] * 4, "c": [4.0] * 4}


def test_a_table_is_aligned() -> None:
    rows = [{"name": "a", "figure": 1234.567}, {"name": "longer", "figure": 3}]
    assert bench.table(rows) == "name    figure\na       1235\nlonger  3"


def test_a_csv_reads_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "new" / "figures.csv"
    bench.write_csv(path, [{"name": 'a, "b"', "figure": 0.123456, "count": 12345}], ABOUT)
    assert bench.read_csv(path) == [
        {"name": 'a, "b"', "figure": "0.1235", "count": "12345", **ABOUT}
    ]
    assert b"\r" not in path.read_bytes()


def test_callers_run_at_once_and_each_is_timed_by_itself() -> None:
    together = threading.Barrier(2)
    own = threading.local()

    def tick() -> float:  # each thread's clock goes on by a second whenever it is read
        own.now = getattr(own, "now", 0.0) + 1
        return float(own.now)

    crops = np.zeros((4, 1, 1, 1), np.uint8)
    found = batching.seconds_per_crop(lambda _: together.wait(5), crops, 2, 0.5, tick)
    assert found == pytest.approx(1 / 8)


def test_batches_are_measured_by_the_models_own_session(tmp_path: Path) -> None:
    model = batching.load(REPOSITORY, "lenet5", "cpu", (1, 4))
    rows = batching.measure(model, (1, 4), (1, 2), rounds=3, slice_s=0.01)
    assert [(row["threads"], row["batch"]) for row in rows] == [(1, 1), (1, 4), (2, 1), (2, 4)]
    assert {row["learnt"] for row in rows} == {model.max_batch}
    for row in rows:
        rate, cost = row["crops_per_s"], row["ms_per_crop"]
        assert isinstance(rate, float)
        assert isinstance(cost, float)
        assert rate * cost == pytest.approx(1000)
    assert [row["ratio"] for row in rows if row["batch"] == 1] == [1, 1]
    batching.close(model)
    with pytest.raises(LookupError, match="no network alexnet"):
        inprocess.load(REPOSITORY, "alexnet")


@pytest.mark.parametrize(
    ("most", "points", "expected"),
    [(8, 5, [0, 2, 4, 6, 8]), (4, 9, [0, 1, 2, 3, 4]), (50, 1, [0, 50]), (0, 9, [0])],
)
def test_points_lie_between_both_ends(most: int, points: int, expected: list[int]) -> None:
    assert precision.spread_over(most, points) == expected


def test_logits_by_several_callers_are_those_of_one() -> None:
    session = calibrate.session(str(REPOSITORY / "lenet5" / "1" / "model.onnx"), threads=1)
    shape = (3 * precision._CHUNK + 1, 32, 32, 1)
    crops = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    found = precision.logits(session, crops)
    assert np.array_equal(found, agreement.logits(session, crops))


def test_the_tail_of_an_ideal_queue() -> None:
    assert overload.ideal_p99(2, load=0.001) == pytest.approx(1.0, abs=0.01)
    tails = [overload.ideal_p99(cores, arrivals=20_000) for cores in (1, 2, 4)]
    assert tails[0] > tails[1] > tails[2] > 1.0
