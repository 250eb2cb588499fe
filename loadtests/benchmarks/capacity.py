"""Compute how many replicas a rate needs.

    python -m loadtests.benchmarks.capacity --rate 500 --p99 150

Computed from what was measured on one replica, and from nothing else: the peak, the unloaded median
and the tail at 70 % of overload.csv, memory and start of coldstart_*.csv. Requests come at random,
so the tail is that of a queue: M/D/c, made longer by as much as the measured one was at 70 %. The
busiest a replica may be is where that tail reaches ``--p99``; the share of its peak that it may
then get is what a replica takes. The figures are of the pictures, the model and the machine of
those files: measure yours by `loadtests.benchmarks.overload` and `loadtests.benchmarks.coldstart`,
and name the files.
"""

from __future__ import annotations

import argparse
import math
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from loadtests.benchmarks.overload import ideal_p99, ideal_times
from loadtests.harness import bench

MOST_LOAD = 0.9
"""Most load planned for a replica, as a share of its peak: real load is never even."""
LEAST_LOAD = 0.02
STEPS = 12
"""How often the interval of the load is halved: finer than the figures are."""


class Unreachable(Exception):
    """No number of replicas has that tail, or a file lacks a figure; the message is one line."""


@dataclass(frozen=True)
class Replica:
    """What was measured on one replica."""

    cores: int
    peak: float
    """Pictures per second that it answers at most."""
    median_ms: float
    """Median time of a request to an idle replica, in milliseconds."""
    above_ideal: float
    """Its p99 at 70 %, divided by that of an ideal queue."""
    memory_mb: float
    ready_s: float

    def p99_ms(self, load: float) -> float:
        """Return the 99th percentile in milliseconds at ``load``, a share of the peak."""
        return self.above_ideal * self.median_ms * _ideal_p99(self.cores, load)

    def crops_inside(self, load: float) -> float:
        """Return the mean number of crops accepted and not yet answered, by Little's law."""
        seconds = self.median_ms / 1e3 * float(np.mean(ideal_times(self.cores, load)))
        return load * self.peak * seconds

    def busiest(self, p99_ms: float) -> float:
        """Return the largest share of the peak whose p99 is within ``p99_ms``.

        Raises Unreachable where none is.
        """
        low, high = LEAST_LOAD, MOST_LOAD
        if self.p99_ms(low) > p99_ms:
            raise Unreachable(
                f"even an idle replica has a p99 of {self.p99_ms(low):.0f} ms, more than {p99_ms:g}"
            )
        if self.p99_ms(high) <= p99_ms:
            return high
        for _ in range(STEPS):
            middle = (low + high) / 2
            low, high = (middle, high) if self.p99_ms(middle) <= p99_ms else (low, middle)
        return low


@lru_cache
def _ideal_p99(cores: int, load: float) -> float:
    return ideal_p99(cores, load)


def read(overload: Path, coldstart: Path) -> Replica:
    """Read a replica from the CSVs that the benchmarks overload and coldstart write.

    Raises Unreachable where a figure is missing.
    """
    rows = bench.read_csv(overload)
    figures = {row["figure"]: float(row["median"]) for row in rows}
    starts = {
        row["figure"]: float(row["median"])
        for row in bench.read_csv(coldstart)
        if (row["load"], row["models"]) == ("all", "1")
    }
    try:
        return Replica(
            cores=int(rows[0]["cores"].split()[0]),
            peak=figures["peak in pictures/s"],
            median_ms=figures["unloaded median in ms"],
            above_ideal=max(
                1.0,
                figures["p99 at 70 %, Poisson / unloaded median"]
                / figures["the same of an ideal queue / unloaded median"],
            ),
            memory_mb=starts["rss_mb"],
            ready_s=starts["ready_s"],
        )
    except (KeyError, IndexError) as missing:
        raise Unreachable(f"{overload} or {coldstart} lacks {missing}") from None


def plan(replica: Replica, rate: float, p99_ms: float, spare: int) -> dict[str, float]:
    """Return the figures of a deployment that answers ``rate`` with ``spare`` replicas lost.

    ``rate`` is in pictures per second. Raises Unreachable where no number of replicas does.
    """
    load = replica.busiest(p99_ms)
    takes = load * replica.peak
    count = math.ceil(rate / takes) + spare
    usual = rate / count / replica.peak
    planned_load = load * (count - spare) / count  # so that the others can take a lost one's part
    return {
        "a replica's peak, pictures/s": replica.peak,
        "load at which its p99 is reached, share of the peak": load,
        "a replica takes, pictures/s": takes,
        "replicas": count,
        "of them may be lost": spare,
        "load of each when all are there": usual,
        "p99 then, ms": replica.p99_ms(max(usual, LEAST_LOAD)),
        "cores": count * replica.cores,
        "memory when idle, MB": count * replica.memory_mb,
        "a new one is ready after, s": replica.ready_s,
        "autoscaler: CPU, %": math.floor(100 * planned_load),
        "zoo_admitted_crops in each then, mean": replica.crops_inside(planned_load),
    }


def main() -> int:
    """Print the plan; 1 where no number of replicas would do."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.benchmarks.capacity", description=__doc__
    )
    parser.add_argument("--rate", type=float, required=True, help="pictures/s, at the busiest time")
    parser.add_argument("--p99", type=float, required=True, help="ms that 99 %% must be within")
    parser.add_argument("--spare", type=int, default=1, help="replicas that may be lost")
    parser.add_argument("--overload", type=Path, default=bench.RESULTS / "overload.csv")
    parser.add_argument("--coldstart", type=Path, default=bench.RESULTS / "coldstart_lenet5.csv")
    args = parser.parse_args()
    if args.rate <= 0 or args.p99 <= 0 or args.spare < 0:
        parser.error("--rate and --p99 are positive, --spare is not negative")
    try:
        found = plan(read(args.overload, args.coldstart), args.rate, args.p99, args.spare)
    except (Unreachable, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(bench.table([{"figure": name, "value": value} for name, value in found.items()]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
