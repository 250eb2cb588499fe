"""Measure the time from a cold start to ready, and the memory of models.

    python -m loadtests.benchmarks.coldstart

In turn, round after round, the service is started on a repository with one model and with 100,
so that it loads each on its first use (ZOO_LOAD=used) or all of them at start. Taken are the
seconds until /readyz answers 200, and the memory of the worker when it is idle. The models beside
the default one are copies of an embedded model; of ZOO_LOAD=used one is then used, to see what it
takes. The default model learns its batch size at each start; what it keeps for that batch is most
of the memory's spread.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import models
from loadtests.harness import bench, plots, server

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DEFAULT = "efficientnet_lite0"
LOADS = ("used", "all")
MODELS = (1, 100)
PACKAGES = ("bentoml", "onnxruntime")
SETTLE_S = 1.0
"""Seconds between ready and the measurement, in which what the start leaves is freed."""

Figures = dict[str, float]


@contextmanager
def repository(count: int, copied: str) -> Iterator[Path]:
    """Make a repository of ``count`` models: the default one and copies of ``copied``.

    The files are hard links where the file system allows that, so a hundred models take no room.
    """
    with tempfile.TemporaryDirectory(prefix="coldstart-") as folder:
        for number in range(count):
            source = DEFAULT if number == 0 else copied
            name = DEFAULT if number == 0 else f"{copied}_{number:03}"
            _copy(models.REPOSITORY / source / "1", Path(folder, name, "1"), name)
        yield Path(folder)


def _copy(source: Path, target: Path, name: str) -> None:
    target.mkdir(parents=True)
    for file in source.iterdir():
        if file.name != "manifest.json":
            try:
                os.link(file, target / file.name)
            except OSError:  # another file system
                shutil.copy(file, target)
    manifest = json.loads((source / "manifest.json").read_text())
    (target / "manifest.json").write_text(json.dumps({**manifest, "name": name}))


def measure(load: str, count: int, copied: str, threads: int) -> Figures:
    """Start the service once; return seconds, and megabytes of its worker."""
    with (
        repository(count, copied) as folder,
        server.serving(zoo_models=folder, zoo_load=load, zoo_threads=threads) as running,
    ):
        time.sleep(SETTLE_S)
        (worker,) = running.workers()
        figures = {
            "ready_s": running.started_s,
            "rss_mb": resident_bytes(worker) / 1e6,
            "pss_mb": server.proportional_bytes(worker) / 1e6,
        }
        if load == "used" and count > 1:
            begun = time.perf_counter()
            _ask(running.port, f"{copied}_001")
            figures["first_answer_s"] = time.perf_counter() - begun
            time.sleep(SETTLE_S)
            figures["first_use_mb"] = resident_bytes(worker) / 1e6 - figures["rss_mb"]
        return figures


def _ask(port: int, model: str) -> None:
    picture = _picture()
    url = f"http://127.0.0.1:{port}/classify?model={model}"
    with server.OPENER.open(url, data=picture, timeout=60) as answer:
        answer.read()


def _picture() -> bytes:
    """Make a gray BMP of 256 x 256 pixels: the model is measured, not the decoder."""
    side = 256
    head = b"BM" + (54 + 3 * side * side).to_bytes(4, "little") + bytes(4) + b"\x36\0\0\0"
    info = b"\x28\0\0\0" + 2 * side.to_bytes(4, "little") + b"\1\0\x18\0" + bytes(24)
    return head + info + b"\x80" * (3 * side * side)


def resident_bytes(pid: int) -> int:
    """Return the resident bytes of a process, shared ones included (RSS)."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def rounds(
    count: int, loads: Sequence[str], copied: str, threads: int
) -> dict[tuple[str, int], list[Figures]]:
    """Measure ``count`` rounds; return figures by ZOO_LOAD and number of models.

    The order of the starts turns from round to round.
    """
    contenders = [(load, held) for load in loads for held in MODELS]
    taken: dict[tuple[str, int], list[Figures]] = {contender: [] for contender in contenders}
    for number in range(count):
        first = number % len(contenders)
        for load, held in contenders[first:] + contenders[:first]:
            figures = measure(load, held, copied, threads)
            taken[load, held].append(figures)
            shown = ", ".join(f"{name} {value:.2f}" for name, value in figures.items())
            print(f"round {number + 1}, {load} with {held}: {shown}", flush=True)
    return taken


def report(taken: dict[tuple[str, int], list[Figures]], copied: str) -> list[dict[str, object]]:
    """Return one row per figure: its median and quartiles over the rounds."""
    rows: list[dict[str, object]] = []

    def add(load: str, held: str, figure: str, values: Sequence[float]) -> None:
        spread = bench.spread(values)
        rows.append(
            {
                "copies_of": copied,
                "load": load,
                "models": held,
                "figure": figure,
                "median": spread.median,
                "low": spread.low,
                "high": spread.high,
                "rounds": len(values),
            }
        )

    for (load, held), figures in taken.items():
        for figure in figures[0]:
            add(load, str(held), figure, [one[figure] for one in figures])
    for load in dict.fromkeys(load for load, _ in taken):
        one, hundred = (taken[load, held] for held in MODELS)
        for figure in ("rss_mb", "pss_mb", "ready_s"):
            ratios = [b[figure] / a[figure] for a, b in zip(one, hundred, strict=True)]
            add(load, "100 / 1", f"ratio of {figure}", ratios)
        each = [(b["rss_mb"] - a["rss_mb"]) / 99 for a, b in zip(one, hundred, strict=True)]
        add(load, "100", "rss_mb per further model", each)
    return rows


def draw(rows: plots.Rows) -> Figure:
    """Draw seconds and memory; the ratios between the figures are left to the table."""
    panels = {
        "seconds": {"ready_s": "ready", "first_answer_s": "first answer of a model"},
        "memory of the worker, MB": {
            "rss_mb": "resident",
            "pss_mb": "proportional",
            "first_use_mb": "first use of a model",
            "rss_mb per further model": "resident, per further model",
        },
    }
    bars = {
        unit: [
            plots.Bar(
                f"{words}, {row['models']} in repository",
                plots.spread_of(row, "median", "low", "high"),
                f"ZOO_LOAD={row['load']}",
            )
            for figure, words in names.items()
            for row in rows
            if row["figure"] == figure
        ]
        for unit, names in panels.items()
    }
    figure, grid = plots.panels(
        f"Cold start with {DEFAULT} and copies of {rows[0]['copies_of']}",
        [plots.height(shown) for shown in bars.values()],
        rows,
    )
    for axes, (unit, shown) in zip(grid, bars.items(), strict=True):
        plots.bars(axes, shown, f"{unit} (median of {rows[0]['rounds']} rounds, quartiles)")
    return figure


def main() -> None:
    """Print the table, write it as CSV and plot it."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.benchmarks.coldstart", description=__doc__
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=0, help="ZOO_THREADS; 0: one per core")
    parser.add_argument(
        "--copies-of", default="lenet5", help="the embedded model that fills the repository"
    )
    parser.add_argument("--loads", nargs="+", choices=LOADS, default=LOADS)
    parser.add_argument("--output", type=Path, help="default: results/coldstart_NAME.csv")
    args = parser.parse_args()
    copied = args.copies_of
    rows = report(rounds(args.rounds, args.loads, copied, args.threads), copied)
    print(bench.table(rows))
    output = args.output or bench.RESULTS / f"coldstart_{copied}.csv"
    plots.write(output, rows, bench.machine(*PACKAGES), draw)


if __name__ == "__main__":
    main()
