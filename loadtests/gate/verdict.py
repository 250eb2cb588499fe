"""Judge a load test: hold the seconds with all users against the thresholds."""

from __future__ import annotations

import math
from argparse import Namespace
from collections.abc import Iterator
from typing import NamedTuple

from loadtests.gate.per_second import PerSecond, Second


class Held(NamedTuple):
    """The figures of the seconds with all users."""

    seconds: int
    requests: int
    rate: float
    """Answers per second."""
    failure_ratio: float
    p50_ms: float
    p99_ms: float

    def __str__(self) -> str:
        return (
            f"{self.requests} requests in {self.seconds} s with all users: {self.rate:.1f} "
            f"answers/s, p50 {self.p50_ms:.0f} ms, p99 {self.p99_ms:.0f} ms, "
            f"{self.failure_ratio:.2%} failures"
        )


def held(per_second: PerSecond, begin: float, end: float) -> Held | None:
    """Sum the whole seconds between two moments, in seconds since the epoch; None without any.

    ``begin`` is infinite where the last users never came.
    """
    if not math.isfinite(begin):
        return None
    first, last = math.ceil(begin), math.floor(end)
    if last <= first:
        return None
    found: Second = per_second.between(first, last)
    requests = found.answers + found.failures
    return Held(
        last - first,
        requests,
        found.answers / (last - first),
        found.failures / requests if requests else 0.0,
        found.percentile(50),
        found.percentile(99),
    )


def reasons(found: Held | None, options: Namespace) -> Iterator[str]:
    """Yield why the load test failed; nothing where it passed."""
    if found is None:
        yield "there was no whole second with all users"
        return
    if not found.requests:
        yield "nothing was asked"
    if options.max_p99_ms is not None and found.p99_ms > options.max_p99_ms:
        yield f"p99 is {found.p99_ms:.4g} ms, above {options.max_p99_ms:g}"
    most = options.max_failure_ratio
    if most is not None and found.failure_ratio > most:
        yield f"{found.failure_ratio:.4g} of the requests failed, above {most:g}"
    if options.min_rate is not None and found.rate < options.min_rate:
        yield f"the rate is {found.rate:.4g} answers/s, below {options.min_rate:g}"


def has_thresholds(options: Namespace) -> bool:
    """Whether the options hold a threshold to judge the run by."""
    thresholds = (options.max_p99_ms, options.max_failure_ratio, options.min_rate)
    return any(threshold is not None for threshold in thresholds)
