"""Draws the plots of results anew from their CSVs: ``python -m loadtests.plots [CSV...]``."""

from __future__ import annotations

import argparse
import sys
from fnmatch import fnmatch
from importlib import import_module
from pathlib import Path

from loadtests.harness import bench
from loadtests.harness.plots import Draw, redraw

DRAWN_BY = {
    "batching.csv": "loadtests.benchmarks.batching",
    "coldstart_*.csv": "loadtests.benchmarks.coldstart",
    "limit*.csv": "loadtests.benchmarks.limit",
    "loadtest.csv": "loadtests.gate.timeline",
    "overload.csv": "loadtests.benchmarks.overload",
    "peers*.csv": "loadtests.peers.__main__",
    "precision_*.csv": "loadtests.benchmarks.precision",
    "profile.csv": "loadtests.benchmarks.profile",
    "preprocessing.csv": "loadtests.benchmarks.preprocessing",
    "soak.csv": "loadtests.soak.report",
}
"""Names of result files -> the benchmark that writes them, and draws them by its ``draw``."""


def drawing(name: str) -> Draw | None:
    """How files of that name are drawn; None where nothing is drawn of them."""
    for pattern, module in DRAWN_BY.items():
        if fnmatch(name, pattern):
            draw: Draw = import_module(module).draw
            return draw
    return None


def main() -> int:
    """Draw the plots of results anew. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.plots", description=__doc__)
    parser.add_argument("files", nargs="*", type=Path, help="default: all in loadtests/results")
    args = parser.parse_args()
    for path in args.files or sorted(bench.RESULTS.glob("*.csv")):
        draw = drawing(path.name)
        if draw is not None:
            print(redraw(path, draw))
        elif args.files:
            print(f"{path}: no benchmark draws a file of this name", file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
