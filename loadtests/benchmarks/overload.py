"""Measure the tail below saturation, and what is left beyond it.

    python -m loadtests.benchmarks.overload

In every round, in turn: one connection (the unloaded median), 16 connections as fast as they are
answered (the peak), requests at 70 % of that peak, evenly spaced and at random (Poisson), and
requests at three times the peak, each with a deadline. Answers in time are those with status 200;
everything else should be a 429, and soon.
"""

from __future__ import annotations

import argparse
import heapq
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from loadtests.benchmarks.limit import http
from loadtests.clients import client
from loadtests.harness import bench, plots, server
from loadtests.harness.photographs import usual_pictures
from service.config.cpus import available_cores

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DEADLINE_MS = 1000
LOAD = 0.7
OVERLOAD = 3.0
_TARGETS = {"share": 1.0}
"""By unit: beyond the peak as many should be answered in time as at it."""


class Round(NamedTuple):
    """What one round measured; times in milliseconds."""

    median_ms: float
    peak: float
    even_p99_ms: float
    poisson_p99_ms: float
    in_time: float
    """Answers with 200 per second within the deadline, which counts from when they were due."""
    refusal_p99_ms: float
    statuses: Counter[int]


def evenly(rate: float, seconds: float) -> list[float]:
    """Return arrival times in seconds, at equal distances."""
    return [number / rate for number in range(int(rate * seconds))]


def poisson(rate: float, seconds: float, seed: int) -> list[float]:
    """Return arrival times in seconds of independent requests (a Poisson process)."""
    gaps = np.random.default_rng(seed).exponential(1 / rate, int(rate * seconds))
    return [float(moment) for moment in np.cumsum(gaps)]


def ideal_p99(cores: int, load: float = LOAD, arrivals: int = 200_000, seed: int = 0) -> float:
    """Return the 99th percentile of `ideal_times`."""
    return float(np.percentile(ideal_times(cores, load, arrivals, seed), 99))


def ideal_times(
    cores: int, load: float, arrivals: int = 200_000, seed: int = 0
) -> NDArray[np.float64]:
    """Return the time of each request behind one queue, in multiples of its service time.

    Requests come at random; each takes one of ``cores`` servers for the same time, and nothing
    else costs anything: what no service can be better than (the queue M/D/c of queueing theory).
    """
    free = [0.0] * cores  # a heap: when each server is free
    took = []
    for moment in poisson(load * cores, arrivals / (load * cores), seed):
        end = max(moment, free[0]) + 1.0
        heapq.heapreplace(free, end)
        took.append(end - moment)
    return np.array(took)


def measure(port: int, rounds: int, seconds: float) -> list[Round]:
    """Measure ``rounds`` against a running service."""
    encoded = usual_pictures()
    plain = [client.raw(picture) for picture in encoded]
    hurried = [
        client.raw(picture, headers=f"X-Request-Timeout-Ms: {DEADLINE_MS}\r\n")
        for picture in encoded
    ]
    client.run(http(port, 16, plain, seconds))  # warm
    return [_round(port, plain, hurried, seconds, seed) for seed in range(rounds)]


def _round(
    port: int, plain: Sequence[bytes], hurried: Sequence[bytes], seconds: float, seed: int
) -> Round:
    alone = client.run(http(port, 1, plain, seconds))
    peak = client.run(http(port, 16, plain, seconds)).rate
    even = client.run(client.open_loop(port, plain, evenly(LOAD * peak, seconds)))
    random = client.run(client.open_loop(port, plain, poisson(LOAD * peak, seconds, seed)))
    for load in (alone, even, random):
        if set(load.statuses) != {200}:
            raise RuntimeError(f"below saturation there were refusals: {dict(load.statuses)}")
    arrivals = evenly(OVERLOAD * peak, seconds + DEADLINE_MS / 1e3)
    beyond = client.run(client.open_loop(port, hurried, arrivals, most=2048))
    return Round(
        _ms(alone.latencies_s, 50),
        peak,
        _ms(even.latencies_s, 99),
        _ms(random.latencies_s, 99),
        sum(taken <= DEADLINE_MS / 1e3 for taken in beyond.latencies_s) / beyond.seconds,
        _ms(beyond.of_status(429), 99),
        beyond.statuses,
    )


def _ms(seconds: Sequence[float], percentile: float) -> float:
    return float(np.percentile(seconds, percentile)) * 1e3 if seconds else 0.0


def rows(measured: Sequence[Round]) -> list[dict[str, object]]:
    """Return one row per figure: median and quartiles over the rounds."""
    figures = {
        "p99 at 70 %, evenly spaced / unloaded median": [
            each.even_p99_ms / each.median_ms for each in measured
        ],
        "p99 at 70 %, Poisson / unloaded median": [
            each.poisson_p99_ms / each.median_ms for each in measured
        ],
        "the same of an ideal queue / unloaded median": [ideal_p99(available_cores())],
        "in time at 3x overload / peak": [each.in_time / each.peak for each in measured],
        "429 at 3x overload, p99 in ms": [each.refusal_p99_ms for each in measured],
        "neither 200 nor 429 at 3x overload, share": [
            1 - (each.statuses[200] + each.statuses[429]) / each.statuses.total()
            for each in measured
        ],
        "unloaded median in ms": [each.median_ms for each in measured],
        "peak in pictures/s": [each.peak for each in measured],
    }
    return [{"figure": name, **bench.spread(values)._asdict()} for name, values in figures.items()]


def draw(found: plots.Rows) -> Figure:
    """Draw the figures by unit: multiples of the unloaded median, shares, milliseconds."""
    units = {
        "multiple of the unloaded median": ("/ unloaded median",),
        "share": ("/ peak", "share"),
        "ms": ("in ms",),
    }
    bars = {
        unit: [
            plots.Bar(row["figure"], plots.spread_of(row, "median", "low", "high"))
            for row in found
            if row["figure"].endswith(ends)
        ]
        for unit, ends in units.items()
    }
    (peak,) = (row["median"] for row in found if row["figure"].startswith("peak"))
    figure, panels = plots.panels(
        f"Below and beyond saturation, which is at {float(peak):.0f} pictures/s",
        [plots.height(shown) for shown in bars.values()],
        found,
    )
    for axes, (unit, shown) in zip(panels, bars.items(), strict=True):
        plots.bars(axes, shown, f"{unit} (median of rounds, quartiles)", target=_TARGETS.get(unit))
    return figure


def main() -> None:
    """Run, print the table, write the CSV and its plot."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.benchmarks.overload", description=__doc__
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=3.0, help="of a slice")
    parser.add_argument("--output", type=Path, default=bench.RESULTS / "overload.csv")
    args = parser.parse_args()
    with server.serving(zoo_max_connections=4096) as running:
        found = rows(measure(running.port, args.rounds, args.seconds))
    print(bench.table(found))
    plots.write(args.output, found, bench.machine("onnxruntime", "pillow", "bentoml"), draw)


if __name__ == "__main__":
    main()
