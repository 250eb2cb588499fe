"""What the benchmarks share: turns, paired ratios, tables, CSVs, and the plots drawn from them."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from export.precision import agreement, calibrate
from loadtests import batching, bench, coldstart, inprocess, overload, plots, precision, profile
from loadtests.bench import Spread
from models import REPOSITORY
from service.engine import tuning
from tests.server import ROOT

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
    http = dict(zip(profile.PARTS, ([4.0], [5.0], [2.0], [0.0], [1.0], [2.0]), strict=True))
    grpc = dict(zip(profile.PARTS, ([4.0], [10.0], [4.0], [1.0], [2.0], [3.0]), strict=True))
    table = {
        (row["transport"], row["who"]): row["share"]
        for row in profile.rows({"http": http, "grpc": grpc})
    }
    assert table == {
        ("http", profile.LIMIT): 0.4,
        ("http", profile.POOL): 0.5,
        ("http", profile.LOOP): 0.2,
        ("http", profile.GRPC): 0.0,
        ("http", profile.CLIENT): 0.1,
        ("http", profile.IDLE): 0.2,
        ("grpc", profile.LIMIT): 0.2,
        ("grpc", profile.POOL): 0.5,
        ("grpc", profile.LOOP): 0.2,
        ("grpc", profile.GRPC): 0.05,
        ("grpc", profile.CLIENT): 0.1,
        ("grpc", profile.IDLE): 0.15,
    }


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


def test_bars_show_medians_quartiles_and_what_is_wanted() -> None:
    shown = [
        plots.Bar("one", Spread(2.0, 1.5, 3.0), "ours"),
        plots.Bar("two", Spread(1.0, 0.5, 1.25), "theirs"),
    ]
    _, (axes,) = plots.panels("title", [1], [ABOUT])
    plots.bars(axes, shown, "seconds", wanted=4.0)
    assert [container.patches[0].get_width() for container in axes.containers[1::2]] == [2, 1]
    whiskers = [lines.get_segments()[0] for lines in axes.collections]
    assert [sorted(segment[:, 0]) for segment in whiskers] == [[1.5, 3.0], [0.5, 1.25]]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["one", "two"]
    assert axes.get_xlabel() == "seconds"
    low, high = axes.get_xlim()
    assert low == 0
    assert high > 4
    (bottom, top) = axes.get_ylim()
    assert bottom > top  # the first is above


def test_lines_run_through_the_medians_in_bands_of_quartiles() -> None:
    points = [plots.Point(1, Spread(1, 1, 1)), plots.Point(2, Spread(0.5, 0.25, 0.75))]
    _, (axes,) = plots.panels("title", [4], [ABOUT], beside=True)
    plots.lines(axes, {"ours": points}, "size", "cost", wanted=0.3)
    line, wanted = axes.get_lines()
    assert [tuple(place) for place in line.get_xydata()] == [(1, 1), (2, 0.5)]
    assert set(wanted.get_ydata()) == {0.3}
    (band,) = axes.collections
    corners = {tuple(map(float, corner)) for corner in band.get_paths()[0].vertices}
    assert {(2.0, 0.25), (2.0, 0.75)} <= corners


def _coldstart() -> list[dict[str, object]]:
    taken = {}
    for number, load in enumerate(coldstart.LOADS, start=1):
        for count in coldstart.MODELS:
            figures = {"ready_s": 2.0 * number, "rss_mb": 100.0 + count, "pss_mb": 90.0 + count}
            if load == "used" and count > 1:
                figures |= {"first_answer_s": 0.1, "first_use_mb": 3.0}
            taken[load, count] = [figures, {k: 1.1 * v for k, v in figures.items()}]
    return coldstart.report(taken, "lenet5")


def _precision() -> list[dict[str, object]]:
    share = {"agreement": 0.97, "confident_agreement": 1.0, "hard_agreement": 0.9}
    speed = {"speedup": 2.0, "speedup_lower_quartile": 1.9, "speedup_upper_quartile": 2.2}
    return [
        {"network": "lenet5", "precision": precision, "provider": provider, "crops": 40}
        | {"float_layers": layers, **share, **speed}
        for precision, provider in (("int8", "cpu"), ("bf16", "openvino"))
        for layers in (0, 3, 6)
    ]


_RATIO = {"ratio": 0.5, "ratio_low": 0.4, "ratio_high": 0.7}
_SHARE = {"of_limit": 0.8, "of_limit_q1": 0.7, "of_limit_q3": 0.9}
_FIGURES = (
    *("p99 at 70 %, Poisson / unloaded median", "in time at 3x overload / peak"),
    *("429 at 3x overload, p99 in ms", "peak in pictures/s"),
)
ROWS: dict[str, list[dict[str, object]]] = {
    "batching.csv": [
        {"model": name, "provider": "cpu", "precision": "fp32", "learnt": 4}
        | {"threads": threads, "batch": batch, **_RATIO}
        for name in ("one", "two")
        for threads in (1, 2)
        for batch in (1, 2, 4)
    ],
    "coldstart_lenet5.csv": _coldstart(),
    "limit.csv": [
        {"contender": name, "pictures_per_s": 100.0, **_SHARE}
        for name in ("in process, threads", "1 worker, raw, 4 connections")
    ],
    "overload.csv": [{"figure": name, "median": 3.0, "low": 2.0, "high": 5.0} for name in _FIGURES],
    "peers.csv": [
        {"contender": name, "pictures_per_s": 100.0}
        | {f"{mode}_{end}": 1.5 for mode in ("exact", "fast") for end in ("over_it", "q1", "q3")}
        for name in ("ours, exact", "ours, fast", "mosec", "best peer")
    ],
    "precision_lenet5.csv": _precision(),
    "profile.csv": profile.rows(
        {each: {who: [1.0, 2.0] for who in profile.PARTS} for each in profile.TRANSPORTS}
    ),
    "preprocessing.csv": [
        {"picture": "a cat", "interpolation": "bicubic", "contender": contender, **_RATIO}
        for contender in ("reference", "exact", "fast")
    ],
}

ROWS["loadtest.csv"] = [
    {"second": second, "users": 4, "answers_per_s": 10.0 + second, "failures_per_s": 0}
    | {"p50_ms": 20.0, "p99_ms": 50.0 + second, "judged": int(second > 3)}
    for second in range(9)
]
ROWS["soak.csv"] = [
    {"minute": float(minute), "what": what, "took_s": ""}
    | dict.fromkeys(("rss_mb", "files", "threads"), 9.0 if what.startswith("worker") else "")
    | dict.fromkeys(("right_per_s", "refused_per_s", "p50_ms", "p99_ms"), "")
    | given
    for minute in range(6)
    for what, given in (
        ("worker 1", {}),
        ("worker 2", {}),
        ("traffic", {"right_per_s": 5.0 + minute, "refused_per_s": 1.0, "p50_ms": 7.0}),
        ("event: burst", {"took_s": 5.0}),
    )
]


@pytest.mark.parametrize("name", ROWS)
def test_a_plot_is_drawn_from_the_csv_alone(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    draw = plots.drawing(name)
    assert draw is not None
    plots.write(path, ROWS[name], ABOUT, draw)
    picture = path.with_suffix(".png")
    drawn = picture.read_bytes()
    pixels = np.asarray(Image.open(picture).convert("RGB"))
    assert min(pixels.shape[:2]) > 200
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 20  # axes, text, and colours of bars
    assert len(drawn) < 60_000
    assert not Image.open(picture).info.get("Software")

    picture.unlink()
    plots.redraw(path, draw)
    assert picture.read_bytes() == drawn

    changed = [{k: 2 * v if isinstance(v, float) else v for k, v in r.items()} for r in ROWS[name]]
    plots.write(path, changed, ABOUT, draw)
    assert picture.read_bytes() != drawn


def test_every_pattern_has_a_benchmark_that_draws_and_rows_here() -> None:
    for pattern, module in plots.DRAWN_BY.items():
        assert callable(import_module(module).draw)
        assert any(Path(name).match(pattern) for name in ROWS)
    assert plots.drawing("preprocessing_proof.csv") is None


def test_the_committed_plots_stand_beside_their_csvs() -> None:
    for path in bench.RESULTS.glob("*.csv"):
        if plots.drawing(path.name):
            assert path.with_suffix(".png").is_file()


def test_the_command_draws_a_csv_anew(tmp_path: Path) -> None:
    path = tmp_path / "overload.csv"
    plots.write(path, ROWS["overload.csv"], ABOUT, overload.draw)
    drawn = path.with_suffix(".png").read_bytes()
    path.with_suffix(".png").unlink()
    done = _command("loadtests.plots", path)
    assert (done.returncode, done.stdout) == (0, f"{path.with_suffix('.png')}\n")
    assert path.with_suffix(".png").read_bytes() == drawn
    path.rename(tmp_path / "other.csv")
    done = _command("loadtests.plots", tmp_path / "other.csv")
    assert done.returncode == 2
    assert "no benchmark draws" in done.stderr


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
    assert {row["learnt"] for row in rows} == {tuning.best(model.batch_costs)}
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


def _command(module: str, *arguments: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_the_tail_of_an_ideal_queue() -> None:
    assert overload.ideal_p99(2, load=0.001) == pytest.approx(1.0, abs=0.01)
    tails = [overload.ideal_p99(cores, arrivals=20_000) for cores in (1, 2, 4)]
    assert tails[0] > tails[1] > tails[2] > 1.0
