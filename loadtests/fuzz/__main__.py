"""Hostile input, mutated by a seed, against real services: ``python -m loadtests.fuzz``.

Pictures go through the decoder alone, in a process that may die of them, and over HTTP in every
way that carries a picture; then requests that are hostile themselves: HTTP, the Open Inference
Protocol, gRPC, HTTP/2. Rounds alternate between a service as it comes and one with low limits.
Nothing may be answered by a 5xx other than a 504 in time, after the deadline, or by no problem
document; no worker may die, log an error or answer a known picture otherwise afterwards.
What does is a finding: it is written to a file, which ``--replay`` sends again.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from loadtests.fuzz import decoding, report, rounds, verdict
from loadtests.fuzz.seeds import FORMATS
from loadtests.fuzz.target import PROFILES, State, Target, target
from loadtests.fuzz.verdict import Counts
from loadtests.harness import bench

TRANSPORTS = ("decode", "http", "oip", "grpc")
ROUND = 1000
"""Most cases of each family between two checks of a service."""


@dataclass
class Service:
    """A running service and what was measured of it."""

    target: Target
    sent: int = 0
    cases: list[int] = field(default_factory=list)
    states: list[State] = field(default_factory=list)

    def look(self) -> None:
        """Note the memory of its workers."""
        self.states.append(self.target.settled())
        self.cases.append(self.sent)


@dataclass
class Run:
    """The settings of a run, and its results so far."""

    seed: int
    mutations: int
    formats: list[str]
    transports: list[str]
    profiles: list[str]
    end: float
    findings: Path
    say: Callable[[str], None] = print
    wrote: Callable[[Run], object] = lambda _: None
    """Called after each round, so that results are written before the next one."""
    counts_of: dict[tuple[str, str], Counts] = field(default_factory=dict)
    """By family and where it went: decode, or a profile."""
    services: dict[str, Service] = field(default_factory=dict)
    faults: list[tuple[str, str]] = field(default_factory=list)
    """Where, and what: of the services as a whole, and of cases."""

    @property
    def late(self) -> bool:
        """Whether the run's time is over."""
        return time.monotonic() > self.end


def fuzz(run: Run) -> None:
    """Fuzz until the mutations are done or the time is over."""
    made = rounds.families(run.formats, run.transports)
    with contextlib.ExitStack() as stack:
        for profile in run.profiles if made else ():
            run.services[profile] = Service(stack.enter_context(target(profile)))
        step = max(1, min(ROUND, run.mutations // (2 * len(run.profiles))))
        for number, start in enumerate(range(0, run.mutations, step)):
            numbers = range(start, min(start + step, run.mutations))
            if "decode" in run.transports:
                _decoded(run, numbers)
            if made:
                profile = run.profiles[number % len(run.profiles)]
                asyncio.run(_served(run, profile, made, numbers))
            run.wrote(run)
            if run.late:
                run.say("the time is over")
                return


def _decoded(run: Run, numbers: range) -> None:
    for kind in run.formats:
        if run.late:
            return
        counts = Counts()
        decoding.run(kind, run.seed, numbers, counts)
        _note(run, kind, "decode", counts)


async def _served(run: Run, profile: str, made: dict[str, rounds.Made], numbers: range) -> None:
    service = run.services[profile]
    for family, make in made.items():
        if run.late:
            break
        counts = Counts()
        await rounds.send(service.target, (make(run.seed, n) for n in numbers), counts)
        service.sent += counts.cases
        for fault in await asyncio.to_thread(service.target.faults):
            run.faults.append((f"{profile}, {family} {numbers.start}-{numbers.stop - 1}", fault))
            run.say(f"FINDING {run.faults[-1]}")
        _note(run, family, profile, counts)
    await asyncio.to_thread(service.look)


def _note(run: Run, family: str, where: str, counts: Counts) -> None:
    """Add up the counts of a round, save its findings and print a line."""
    run.counts_of.setdefault((family, where), Counts()).include(counts)
    for case, fault in counts.faults:
        path = case.save(run.findings, where, fault)
        run.faults.append((f"{where}, {case.name}, {case.recipe}: {path}", fault))
        run.say(f"FINDING {run.faults[-1]}")
    labels = " ".join(f"{label}:{count}" for label, count in sorted(counts.labels.items()))
    slowest = f"slowest {counts.slowest:.2f} s ({counts.slowest_case})"
    run.say(f"{family:5} {where:8} {counts.cases} cases, {slowest}  {labels}")


def replay(path: Path) -> None:
    """Send a saved case again and print its outcome."""
    case, profile = verdict.load(path)
    if case.transport == "decode":
        print(decoding.outcome(case))
        return
    with target(profile) as service:
        print(asyncio.run(rounds.replay(service, case)))
        print("\n".join(service.faults()) or "the service is as it was")


def _chosen(text: str, known: tuple[str, ...] | dict[str, object]) -> list[str]:
    names = text.split(",")
    if unknown := set(names) - set(known):
        raise SystemExit(f"there is no {', '.join(unknown)}; there are: {', '.join(known)}")
    return names


def main() -> None:
    """Run, print and write the report; exit 1 where there are findings."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.fuzz", description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--mutations", type=int, default=10_000, help="of each format and family")
    parser.add_argument("--formats", default=",".join(FORMATS), metavar="A,B")
    parser.add_argument("--transports", default=",".join(TRANSPORTS), metavar="A,B")
    parser.add_argument("--profiles", default=",".join(PROFILES), metavar="A,B")
    parser.add_argument("--minutes", type=float, default=120, help="after which no round begins")
    parser.add_argument("--findings", type=Path, default=Path("fuzz-findings"), metavar="FOLDER")
    parser.add_argument("--output", type=Path, default=bench.RESULTS / "fuzz.md")
    parser.add_argument("--replay", type=Path, metavar="FILE")
    args = parser.parse_args()
    if args.replay:
        replay(args.replay)
        return
    run = Run(
        seed=args.seed,
        mutations=args.mutations,
        formats=_chosen(args.formats, FORMATS),
        transports=_chosen(args.transports, TRANSPORTS),
        profiles=_chosen(args.profiles, tuple(PROFILES)),
        end=time.monotonic() + 60 * args.minutes,
        findings=args.findings,
        say=lambda text: print(text, flush=True),
    )
    begun = time.monotonic()

    def write(run: Run) -> report.Report:
        found = report.of(run.counts_of, _slopes(run), run.faults)
        text = report.text(found, seed=run.seed, minutes=(time.monotonic() - begun) / 60)
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(text)
        return found

    run.wrote = write
    fuzz(run)
    found = write(run)
    print(args.output.read_text())
    if run.faults or found.leaks:
        raise SystemExit(1)


def _slopes(run: Run) -> dict[str, tuple[rounds.Slope, State, State]]:
    return {
        name: (rounds.slope(each.cases, each.states), each.states[0], each.states[-1])
        for name, each in run.services.items()
        if each.states
    }


if __name__ == "__main__":
    main()
