"""Write the report of a run as Markdown."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from loadtests.fuzz.rounds import Slope
from loadtests.fuzz.target import MEGABYTE, State
from loadtests.fuzz.verdict import Counts
from loadtests.harness import bench

ALLOWED_BYTES = 48 * MEGABYTE
"""Bytes that memory may end above the baseline: heaps of threads used late."""
ALLOWED_FILES = 16
ALLOWED_THREADS = 4


class Report(NamedTuple):
    """Rows of the two tables, and what was found."""

    cases: list[dict[str, object]]
    services: list[dict[str, object]]
    faults: Sequence[tuple[str, str]]
    leaks: list[str]


def of(
    counts_of: Mapping[tuple[str, str], Counts],
    slopes: Mapping[str, tuple[Slope, State, State]],
    faults: Sequence[tuple[str, str]],
) -> Report:
    """Return the report of these results."""
    cases: list[dict[str, object]] = [
        {
            "family": family,
            "where": where,
            "cases": counts.cases,
            "slowest in s": f"{counts.slowest:.2f}",
            "findings": len(counts.faults),
            "answers": ", ".join(f"{n} {label}" for label, n in sorted(counts.labels.items())),
        }
        for (family, where), counts in counts_of.items()
    ]
    services: list[dict[str, object]] = []
    leaks: list[str] = []
    for name, (slope, first, last) in slopes.items():
        services.append(
            {
                "service": name,
                "MB at first": f"{slope.baseline / MEGABYTE:.0f}",
                "MB at the end": f"{slope.end / MEGABYTE:.0f}",
                "MB per 10,000 cases": f"{slope.per_10000 / MEGABYTE:.2f}",
                "± (95 %)": f"{slope.half / MEGABYTE:.2f}",
                "files": f"{first.files} → {last.files}",
                "threads": f"{first.threads} → {last.threads}",
            }
        )
        leaks += [f"{name}: {leak}" for leak in _leaks(slope, first, last)]
    return Report(cases, services, faults, leaks)


def _leaks(slope: Slope, first: State, last: State) -> list[str]:
    found = []
    if slope.end > slope.baseline + ALLOWED_BYTES:
        grown = (slope.end - slope.baseline) / MEGABYTE
        found.append(f"{grown:.0f} MB more at the end than after the first round")
    if last.files > first.files + ALLOWED_FILES:
        found.append(f"{last.files} open files, {first.files} after the first round")
    if last.threads > first.threads + ALLOWED_THREADS:
        found.append(f"{last.threads} threads, {first.threads} after the first round")
    return found


def text(report: Report, *, seed: int, minutes: float) -> str:
    """Return the page."""
    about = bench.machine("pillow", "starlette", "uvicorn", "httptools", "grpcio", "protobuf")
    total = sum(int(str(row["cases"])) for row in report.cases)
    lines = [
        "# Hostile input",
        "",
        f"`python -m loadtests.fuzz --seed {seed}`, {datetime.date.today():%Y-%m-%d}: {total} "
        f"cases in {minutes:.0f} minutes, {len(report.faults) + len(report.leaks)} findings.",
        "",
        ", ".join(f"{name} {value}" for name, value in about.items()) + ".",
        "",
        "`decode` is the decoder alone, in a process of its own (slowest: CPU time); `defaults` "
        "and `low` are services as they come and with low limits (slowest: until the answer was "
        "there, and for what may be no request until both sides had hung up). `none`: the "
        "connection ended without an answer, which only what is no whole request may see.",
        "",
        *_table(report.cases),
        "",
        *_table(report.services),
        "",
        "Memory is resident, of all workers, after each round; at first: after the first one.",
    ]
    found = [f"- {where}: {fault}" for where, fault in report.faults]
    found += [f"- {leak}" for leak in report.leaks]
    return "\n".join([*lines, "", "## Findings", "", *(found or ["None."])]) + "\n"


def _table(rows: Sequence[Mapping[str, object]]) -> list[str]:
    if not rows:
        return []
    heads = list(rows[0])
    lines = [heads, ["---"] * len(heads), *([str(v) for v in row.values()] for row in rows)]
    return [f"| {' | '.join(line)} |" for line in lines]
