"""Count the requests that ended in each second, over all processes of a distributed run.

Locust's own statistics mix the times of failures with those of answers, and of the warm-up with
those of the load that is judged.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from locust.env import Environment

_REPORTED = "per_second"
"""The key under which workers send their counts to the master."""
DIGITS = 3
"""Significant digits of the times that are kept: enough for percentiles."""


class Second(NamedTuple):
    """The requests that ended in one second, or in several."""

    times_ms: Counter[float]
    """Milliseconds of the answers, and how many took as long."""
    failures: int

    @property
    def answers(self) -> int:
        """How many requests were answered as they should be."""
        return sum(self.times_ms.values())

    def percentile(self, percent: float) -> float:
        """The smallest time that ``percent`` of the answers did not exceed; 0 of none."""
        left = self.answers * percent / 100
        for taken, count in sorted(self.times_ms.items()):
            left -= count
            if left <= 1e-9:
                return taken
        return 0.0


class PerSecond:
    """Counts by the second in which a request ended, in seconds since the epoch."""

    def __init__(self) -> None:
        self._times_ms: dict[int, Counter[float]] = defaultdict(Counter)
        self._failures: Counter[int] = Counter()

    def note(self, response_time_ms: float, *, failed: bool) -> None:
        """Count a request that ends now."""
        now = int(time.time())
        if failed:
            self._failures[now] += 1
        else:
            self._times_ms[now][float(f"{response_time_ms:.{DIGITS}g}")] += 1

    def add(self, times_ms: dict[int, dict[float, int]], failures: dict[int, int]) -> None:
        """Count what another process has noted."""
        for second, counts in times_ms.items():
            self._times_ms[second].update(counts)
        self._failures.update(failures)

    def take(self) -> tuple[dict[int, dict[float, int]], dict[int, int]]:
        """Return and forget the counts since the last call, as `add` takes them."""
        taken = {s: dict(counts) for s, counts in self._times_ms.items()}, dict(self._failures)
        self._times_ms.clear()
        self._failures.clear()
        return taken

    def between(self, begin: int, end: int) -> Second:
        """Return the sum of the seconds from ``begin`` to before ``end``."""
        times: Counter[float] = Counter()
        for second, counts in self._times_ms.items():
            if begin <= second < end:
                times.update(counts)
        failures = sum(n for second, n in self._failures.items() if begin <= second < end)
        return Second(times, failures)

    def seconds(self) -> Iterator[tuple[int, Second]]:
        """Yield each second from the first to the last, also those without requests."""
        known = self._times_ms.keys() | self._failures.keys()
        for second in range(min(known), max(known) + 1) if known else ():
            yield second, self.between(second, second + 1)

    def listen(self, environment: Environment) -> None:
        """Note every request of this process; on a master, those that its workers report."""
        environment.events.request.add_listener(self._requested)
        environment.events.report_to_master.add_listener(self._report)
        environment.events.worker_report.add_listener(self._reported)

    def _requested(self, response_time: float, exception: BaseException | None, **_: Any) -> None:
        self.note(response_time, failed=exception is not None)

    def _report(self, data: dict[str, Any], **_: Any) -> None:
        data[_REPORTED] = self.take()

    def _reported(self, data: dict[str, Any], **_: Any) -> None:
        self.add(*data.get(_REPORTED, ({}, {})))
