"""`make mutants`: prints which faults of the list the tests see; fails below 95 %.

Without a fault the tests must be green; with it one of them must fail. Tests that hang have not
seen it: see `tests.mutants.runner`.
"""

from __future__ import annotations

import argparse
import queue
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.mutants.faults import Fault, problems, read, rooms
from tests.mutants.runner import Copy, Result

LEAST_SEEN = 0.95
LIMIT_SECONDS = 120.0
"""For one test; on a quiet machine those of the list take seconds."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status."""
    asked = _asked(arguments)
    chosen = [fault for room in asked.room or rooms() for fault in read(room)]
    chosen = [fault for fault in chosen if not asked.id or fault.id in asked.id]
    wrong = list(problems(chosen))
    for problem in wrong:
        print(problem)
    if wrong or asked.check:
        print(f"{len(chosen)} faults, {len(wrong)} problems")
        return int(bool(wrong))
    results: list[Result] = []
    for result in _tried(chosen, asked.jobs, asked.limit):
        results.append(result)
        done = f"{len(results)}/{len(chosen)}"
        print(
            f"{done:>8} {result.outcome:<8} {result.fault.name} ({result.seconds:.1f} s)",
            flush=True,
        )
    return _reported(results)


def _asked(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--room", action="append", choices=rooms(), help="that one alone")
    parser.add_argument("--id", action="append", help="the fault of this id alone")
    parser.add_argument(
        "--jobs", type=int, default=1, help="copies of the tree, and runs at a time"
    )
    parser.add_argument("--limit", type=float, default=LIMIT_SECONDS, help="seconds of one test")
    parser.add_argument("--check", action="store_true", help="run nothing: does each still apply?")
    return parser.parse_args(arguments)


def _tried(faults: Sequence[Fault], jobs: int, limit: float) -> Iterator[Result]:
    with (
        tempfile.TemporaryDirectory(prefix="zoo-mutants-") as folder,
        ThreadPoolExecutor(jobs) as pool,
    ):
        copies = [Copy(Path(folder) / str(number), limit) for number in range(jobs)]
        free: queue.SimpleQueue[Copy] = queue.SimpleQueue()
        for copy in copies:
            free.put(copy)
        for room in sorted({fault.room for fault in faults}):
            own = [fault for fault in faults if fault.room == room]
            green = copies[0].are_green(own)
            if not green:
                print(f"{room}: without a fault not all of its tests pass: each set is run alone")

            def one(fault: Fault, green: bool = green) -> Result:
                copy = free.get()
                try:
                    return copy.tried(fault, green=green)
                finally:
                    free.put(copy)

            yield from pool.map(one, own)


def _reported(results: Sequence[Result]) -> int:
    """Print the shares and the survivors. Returns the exit status."""
    counted = [result for result in results if result.outcome != "skipped"]
    missed = [result for result in counted if result.outcome != "seen"]
    for room in sorted({result.fault.room for result in results}):
        own = [result for result in counted if result.fault.room == room]
        print(f"{room:<12} {_share(own)}")
    print(f"{'in all':<12} {_share(counted)}")
    if len(counted) < len(results):
        print(f"{len(results) - len(counted)} left out: this machine lacks what their tests need")
    for fault, outcome, _ in missed:
        print(f"{outcome}: {fault.name} in {fault.file}: {fault.notice}")
    seen = len(counted) - len(missed)
    return int(not counted or seen < LEAST_SEEN * len(counted))


def _share(results: Sequence[Result]) -> str:
    if not results:
        return "nothing was run"
    seen = sum(result.outcome == "seen" for result in results)
    return f"{seen} of {len(results)} seen, {seen / len(results):.1%}"


if __name__ == "__main__":
    sys.exit(main())
