"""Write the report of a soak: a page, and a plot of the CSV of its time line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from loadtests.harness import bench, plots
from loadtests.soak import record
from loadtests.soak.ledger import Outcome
from loadtests.soak.record import QUANTITIES, Growth, Rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

KILL = "worker killed"
_MARKS = {KILL: ("red", ":"), "burst": ("orange", "-")}
_SHOWN_FAILURES = 20
JUDGED_MINUTES = 30.0
"""Minutes from which on growth is judged: a shorter run is still warming up."""
GRANTED = {"rss_mb": 0.0, "files": 5.0, "threads": 2.0}
"""Growth over the run that is no leak: connections move from worker to worker, pools fill."""


class Facts(NamedTuple):
    """What a report says beside its rows."""

    minutes: float
    rate: float
    """Requests per second that the users were told to send."""
    load: str
    """What that rate is, in words."""
    warm_up_minutes: float
    seed: int
    failures: Sequence[str]
    """What went wrong beside requests."""
    unexplained: Sequence[str]
    log: Sequence[tuple[str, int]]
    """Lines of the service's log, and how often each came."""


def verdict(account: Rows, growths: Sequence[Growth], facts: Facts) -> list[str]:
    """Return why the soak failed; an empty list where it passed."""
    reasons = [f"{count} requests are unexplained" for count in _unexplained(account)]
    judged = growths if facts.minutes >= JUDGED_MINUTES else ()
    reasons += [
        f"{QUANTITIES[growth.quantity]} of {growth.whose} grows by {growth.slope} per hour"
        for growth in judged
        if growth.slope.low > 0
        and growth.slope.value * facts.minutes / 60 > GRANTED[growth.quantity]
    ]
    return [*reasons, *facts.failures]


def _unexplained(account: Rows) -> Iterator[int]:
    if count := record.totals(account)[Outcome.UNEXPLAINED.value]:
        yield count


def page(rows: Rows, account: Rows, facts: Facts, name: str) -> str:
    """Return the report in Markdown; ``name`` is that of its files, without a suffix."""
    growths = list(record.growths(rows, facts.warm_up_minutes))
    reasons = verdict(account, growths, facts)
    parts = [
        f"# Soak of {facts.minutes:.0f} minutes: {'FAIL' if reasons else 'pass'}",
        "\n".join(f"- {reason}" for reason in reasons[:_SHOWN_FAILURES]),
        _setting(rows, facts),
        f"![Traffic, latency, memory, file descriptors and threads]({name}.png)",
        "## Every request",
        _sum(account),
        _accounts(account),
        *(["### Unexplained", _lines(facts.unexplained)] if facts.unexplained else []),
        "## Growth per hour, with its 95 % interval",
        _growths(growths, facts),
        "## What was done to it",
        _events(rows),
        "## What the service logged (warnings and errors)",
        _log(facts.log),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _setting(rows: Rows, facts: Facts) -> str:
    where = {k: v for k, v in rows[0].items() if k not in _columns()}
    return (
        f"`python -m loadtests.soak --minutes {facts.minutes:g} --seed {facts.seed}` on "
        + ", ".join(f"{key} {value}" for key, value in where.items())
        + f". The users were told to send {facts.rate:.0f} requests/s ({facts.load}); faults and "
        "bursts come on top."
    )


def _columns() -> set[str]:
    return {"minute", "what", *QUANTITIES} | {
        *("right_per_s", "refused_per_s", "p50_ms", "p99_ms", "took_s")
    }


def _sum(account: Rows) -> str:
    found = record.totals(account)
    return (
        f"{sum(found.values()):,} sent = {found['right']:,} answered right + "
        f"{found['refused']:,} refused with a reason + {found['excused']:,} excused by a fault + "
        f"**{found['unexplained']:,} unexplained**. Right is the expected class with its "
        "probability, computed beforehand without the service; or the problem that a bad request "
        "deserves."
    )


def _accounts(account: Rows) -> str:
    kinds = dict.fromkeys(row["kind"] for row in account)
    lines = ["| request | sent | right | refused | excused | unexplained | by |"]
    lines.append("|---|--:|--:|--:|--:|--:|---|")
    for kind in kinds:
        of_kind = [row for row in account if row["kind"] == kind]
        found = record.totals(of_kind)
        why = "; ".join(f"{r['reason']} {int(r['requests']):,}" for r in of_kind if r["reason"])
        figures = " | ".join(f"{n:,}" for n in (sum(found.values()), *found.values()))
        lines.append(f"| {kind} | {figures} | {why} |")
    return "\n".join(lines)


def _growths(growths: Sequence[Growth], facts: Facts) -> str:
    if not growths:
        return "The run was too short to say."
    lines = ["| of | whose | per hour | samples | persistence |", "|---|---|---|--:|--:|"]
    for quantity, whose, slope in growths:
        lines.append(
            f"| {QUANTITIES[quantity]} | {whose} | {slope} | {slope.samples} | "
            f"{slope.persistence:.2f} |"
        )
    return (
        f"A line with errors that persist from sample to sample (`loadtests/soak/trend.py`), the "
        f"first {facts.warm_up_minutes:.2g} minutes of each worker left out. All workers together "
        "have one slope and each a level of its own. The eldest worker is never killed. "
        f"A soak of {JUDGED_MINUTES:.0f} minutes or more fails when memory grows and its interval "
        "lies above 0, or when a worker gains more than "
        f"{GRANTED['files']:g} descriptors or {GRANTED['threads']:g} threads in that way.\n\n"
        + "\n".join(lines)
    )


def _events(rows: Rows) -> str:
    lines = ["| event | times | median s | longest s |", "|---|--:|--:|--:|"]
    for what, taken in record.events(rows).items():
        seconds = [took for _, took in taken]
        lines.append(
            f"| {what} | {len(taken)} | {record.median(seconds):.2f} | {max(seconds):.2f} |"
        )
    return "\n".join(lines) + (
        "\n\nThe seconds are those until the service had followed: a version was ready, a new "
        "worker took connections, the burst was over."
    )


def _log(log: Sequence[tuple[str, int]]) -> str:
    return _lines([f"{count} × {line}" for line, count in log]) or "Nothing."


def _lines(texts: Sequence[str]) -> str:
    shown = [f"- `{text[:200].replace('`', '')}`" for text in texts[:_SHOWN_FAILURES]]
    if len(texts) > _SHOWN_FAILURES:
        shown.append(f"- and {len(texts) - _SHOWN_FAILURES} more")
    return "\n".join(shown)


def draw(rows: Rows) -> Figure:
    """Draw four panels over the same minutes."""
    figure, (rate, latency, memory, counts) = plots.panels("Soak", [1.9, 1.9, 2.4, 2.1], rows)
    _line(rate, rows, record.TRAFFIC, "right_per_s", "answered right", color="C0")
    _line(rate, rows, record.TRAFFIC, "refused_per_s", "refused", color="C1")
    rate.set_ylabel("requests/s", fontsize=8)
    _line(latency, rows, record.TRAFFIC, "p50_ms", "p50", color="C0")
    _line(latency, rows, record.TRAFFIC, "p99_ms", "p99", color="C3")
    latency.set_yscale("log")
    latency.set_ylabel("one picture, ms", fontsize=8)
    for number, name in enumerate(record.workers(rows)):
        colour = f"C{number % 10}"
        label = (
            "eldest worker" if number == 0 else "second, then its successors" if number == 1 else ""
        )
        _line(memory, rows, name, "rss_mb", label, color=colour)
        files = "file descriptors" if number == 0 else ""
        _line(counts, rows, name, "files", files, color="C0", alpha=1 if number == 0 else 0.5)
        threads = "threads" if number == 0 else ""
        _line(counts, rows, name, "threads", threads, color="C2", alpha=1 if number == 0 else 0.5)
    memory.set_ylabel("resident, MB per worker", fontsize=8)
    counts.set_ylabel("per worker", fontsize=8)
    end = max(float(row["minute"]) for row in rows)
    for axes in (rate, latency, memory, counts):
        _mark(axes, rows, labels=axes is rate)
        axes.set_xlim(0, end)
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1, 1))
    for axes in (rate, memory, counts):
        axes.set_ylim(bottom=0)
    counts.set_xlabel("minutes", fontsize=8)
    return figure


def _line(axes: Axes, rows: Rows, what: str, quantity: str, label: str, **style: object) -> None:
    minutes, values = record.series(rows, what, quantity)
    style["linewidth"] = 1
    axes.plot(minutes, values, label=label or "_", **style)  # type: ignore[arg-type]


def _mark(axes: Axes, rows: Rows, *, labels: bool) -> None:
    found = record.events(rows)
    for what, (colour, style) in _MARKS.items():
        for number, (minute, _) in enumerate(found.get(what, [])):
            axes.axvline(
                minute,
                color=colour,
                linestyle=style,
                linewidth=0.8,
                alpha=0.6,
                zorder=0,
                label=what if labels and number == 0 else "_",
            )


def write(
    path: Path,
    rows: Sequence[dict[str, object]],
    account: Sequence[dict[str, object]],
    facts: Facts,
    about: dict[str, str],
) -> tuple[str, list[str]]:
    """Write CSVs, plot and page beside ``path``; return the page, and why the soak failed."""
    beside = path.with_name(f"{path.stem}_accounts.csv")
    plots.write(path, rows, about, draw)
    bench.write_csv(beside, account, about)
    read, read_account = bench.read_csv(path), bench.read_csv(beside)
    text = page(read, read_account, facts, path.stem)
    path.with_suffix(".md").write_text(text)
    growths = list(record.growths(read, facts.warm_up_minutes))
    return text, verdict(read_account, growths, facts)
