"""Make the rows of a soak's two CSVs, and compute figures from them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from loadtests.soak import trend
from loadtests.soak.chaos import Event
from loadtests.soak.ledger import Ledger, Outcome
from loadtests.soak.trend import Slope
from loadtests.soak.vitals import Vitals

Rows = Sequence[Mapping[str, str]]

TRAFFIC, EVENT = "traffic", "event"
QUANTITIES = {"rss_mb": "memory in MB", "files": "file descriptors", "threads": "threads"}
_FIGURES = (
    *("rss_mb", "files", "threads"),
    *("right_per_s", "refused_per_s", "p50_ms", "p99_ms", "took_s"),
)
_EMPTY: dict[str, object] = dict.fromkeys(("minute", "what", *_FIGURES), "")


def timeline(vitals: Vitals, events: Sequence[Event]) -> list[dict[str, object]]:
    """Return a row for each process, the traffic and each event, in their order in time."""
    rows: list[dict[str, object]] = []
    for vital in vitals.processes:
        figures = {"rss_mb": vital.rss_mb, "files": vital.files, "threads": vital.threads}
        rows.append(_EMPTY | {"minute": vital.minute, "what": vital.process} | figures)
    for sample in vitals.traffic:
        known = {k: v for k, v in sample._asdict().items() if not math.isnan(v)}
        rows.append(_EMPTY | {"what": TRAFFIC} | known)
    for event in events:
        minute = (event.at - vitals.began) / 60
        what = f"{EVENT}: {event.what}"
        rows.append(_EMPTY | {"minute": minute, "what": what, "took_s": event.took_s})
    return sorted(rows, key=lambda row: float(str(row["minute"])))


def accounts(ledger: Ledger) -> list[dict[str, object]]:
    """Return a row for each kind of request and outcome."""
    return [
        {"kind": kind, "outcome": outcome.value, "reason": reason, "requests": count}
        for (kind, outcome, reason), count in sorted(
            ledger.counts.items(), key=lambda item: (item[0][0], list(Outcome).index(item[0][1]))
        )
    ]


class Growth(NamedTuple):
    """The growth of one quantity of the workers."""

    quantity: str
    whose: str
    """Of one worker, or of all together."""
    slope: Slope


def workers(rows: Rows) -> list[str]:
    """Return the worker processes, in the order of their appearance."""
    names = (row["what"] for row in rows if row["what"].startswith("worker "))
    return list(dict.fromkeys(names))


def series(rows: Rows, what: str, quantity: str, after_minutes: float = 0.0) -> trend.Series:
    """Return minutes and values of one process or of the traffic.

    ``after_minutes`` are left out from its own beginning on.
    """
    found = [(float(r["minute"]), r[quantity]) for r in rows if r["what"] == what]
    first = found[0][0] if found else 0.0
    kept = [(m, float(v)) for m, v in found if v and m - first >= after_minutes]
    return [m for m, _ in kept], [v for _, v in kept]


def growths(rows: Rows, warm_up_minutes: float) -> Iterator[Growth]:
    """Yield slopes per hour: of all workers together, and of each that lived long enough."""
    for quantity in QUANTITIES:
        each = {
            name: _hours(series(rows, name, quantity, warm_up_minutes)) for name in workers(rows)
        }
        together = trend.slope(list(each.values()))
        if together is not None:
            yield Growth(quantity, "all workers", together)
        for name, one in each.items():
            alone = trend.slope([one]) if len(one[0]) >= 4 * trend.FEWEST else None
            if alone is not None:
                yield Growth(quantity, name, alone)


def _hours(series: trend.Series) -> trend.Series:
    return [minute / 60 for minute in series[0]], series[1]


def totals(account: Rows) -> dict[str, int]:
    """Return how many requests ended in which way."""
    found = dict.fromkeys((outcome.value for outcome in Outcome), 0)
    for row in account:
        found[row["outcome"]] += int(row["requests"])
    return found


def events(rows: Rows) -> dict[str, list[tuple[float, float]]]:
    """Return by kind the minute of each event, and the seconds it took."""
    found: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        kind, _, what = row["what"].partition(": ")
        if kind == EVENT:
            found.setdefault(what, []).append((float(row["minute"]), float(row["took_s"])))
    return found


def median(values: Sequence[float]) -> float:
    """Return the median; NaN where there are no values."""
    return float(np.median(values)) if values else math.nan
