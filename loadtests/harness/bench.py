"""What every benchmark here shares: alternating slices, paired ratios, tables, CSV.

A machine's speed drifts by more than the differences that are measured. So contenders take turns
in slices of a fraction of a second within one run; what one did is divided by what another did in
the same round, and the median of these ratios is reported with its quartiles.
"""

from __future__ import annotations

import csv
import os
import platform
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from importlib import metadata
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import numpy as np

from service.config.cpus import available_cores

RESULTS = Path(__file__).parents[1] / "results"

RESAMPLES = 10_000
"""How many resamples an interval is read from."""

Rounds = dict[str, list[float]]
"""For each contender one figure per round, in the order of the rounds."""


class Spread(NamedTuple):
    """A median and its quartiles."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.3g} ({self.low:.3g} to {self.high:.3g})"


def spread(values: Iterable[float]) -> Spread:
    """Return the median with the lower and the upper quartile."""
    low, median, high = np.percentile(list(values), [25, 50, 75])
    return Spread(float(median), float(low), float(high))


def interval(values: Sequence[float], share: float = 0.95) -> tuple[float, float]:
    """Return the bootstrap interval of the median of what ``values`` are samples of.

    ``share`` is its confidence. The same values give the same figures.
    """
    generator = np.random.default_rng(len(values))
    drawn = generator.choice(np.asarray(values, float), (RESAMPLES, len(values)))
    beyond = 50 * (1 - share)
    low, high = np.percentile(np.median(drawn, axis=1), [beyond, 100 - beyond])
    return float(low), float(high)


def paired_ratio(rounds: Mapping[str, Sequence[float]], of: str, to: str) -> Spread:
    """Return the spread of the ratios of ``of`` to ``to`` in the same round."""
    return spread(a / b for a, b in zip(rounds[of], rounds[to], strict=True))


def seconds_per_call(
    call: Callable[[], object], slice_s: float, clock: Callable[[], float] = perf_counter
) -> float:
    """Call for about ``slice_s`` seconds of ``clock``; return the mean seconds of a call."""
    calls, started = 0, clock()
    while True:
        call()
        calls += 1
        elapsed = clock() - started
        if elapsed >= slice_s:
            return elapsed / calls


def alternate(
    contenders: Mapping[str, Callable[[], object]],
    rounds: int,
    slice_s: float,
    clock: Callable[[], float] = perf_counter,
) -> Rounds:
    """Return seconds per call of each contender and round; the order turns each round.

    ``time.thread_time`` as ``clock`` counts only what this thread computes: for work of one
    thread on a machine that others use too.
    """
    for call in contenders.values():
        call()  # warm
    slices = {
        name: partial(seconds_per_call, call, slice_s, clock) for name, call in contenders.items()
    }
    return take_turns(slices, rounds)


def take_turns(contenders: Mapping[str, Callable[[], float]], rounds: int) -> Rounds:
    """Return the figure that each contender gives in every round; the order turns each round."""
    names = list(contenders)
    figures: Rounds = {name: [] for name in names}
    for turn in range(rounds):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            figures[name].append(contenders[name]())
    return figures


def machine(*packages: str) -> dict[str, str]:
    """Describe where figures come from: processor, cores, Python, versions of ``packages``."""
    about = {
        "processor": _processor(),
        "cores": f"{available_cores()} of {os.cpu_count()}",
        "python": platform.python_version(),
    }
    return about | {name: _version(name) for name in packages}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def write_csv(path: Path, rows: Sequence[Mapping[str, object]], about: Mapping[str, str]) -> None:
    """Write ``rows`` as CSV; each row also says where it was measured."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0], *about], lineterminator="\n")
        writer.writeheader()
        writer.writerows({**_rounded(row), **about} for row in rows)


def verdict(
    found: Mapping[str, object], broken: Iterable[str], path: Path, about: Mapping[str, str]
) -> int:
    """Print and write what was ``found``, print what is ``broken``; return the exit status."""
    rows = [{"figure": name, "value": value} for name, value in found.items()]
    print(table(rows))
    write_csv(path, rows, about)
    lines = [f"failed: {each}" for each in broken]
    for line in lines:
        print(line, file=sys.stderr)
    return 1 if lines else 0


def read_csv(path: Path) -> list[dict[str, str]]:
    """Read the rows of `write_csv`, as text, each with where it was measured."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def _rounded(row: Mapping[str, object]) -> dict[str, object]:
    return {k: float(f"{v:.4g}") if isinstance(v, float) else v for k, v in row.items()}


def table(rows: Sequence[Mapping[str, object]]) -> str:
    """Format ``rows`` as aligned text, columns in the order of the first row."""
    cells = [list(rows[0]), *([_text(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        for line in cells
    )
    return "\n".join(line.rstrip() for line in lines)


def _text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
