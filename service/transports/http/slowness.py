"""Finds clients that are slow or idle, by a look at every connection once a second.

All connections share one timer: a timer for each request would cost more than parsing it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol

LOOK_SECONDS = 1.0


class Limits(NamedTuple):
    """The limits of one worker's HTTP connections."""

    connections: int = 1024
    """How many may be open at a time."""
    idle_s: float = 75.0
    """How many seconds a connection may go without a request."""
    slow_s: float = 10.0
    """How many seconds a head may take from its first byte on. For a body and an answer, ``rate``
    counts only after as many seconds."""
    rate: int = 1000
    """The least bytes per second of a body or an answer, on average; 0: no limit."""

    def too_slow(self, moved: int, seconds: float) -> bool:
        """Whether ``moved`` bytes in ``seconds`` are below the rate."""
        return bool(self.rate) and moved < self.rate * (seconds - self.slow_s)


class Watched(Protocol):
    """A connection that the reaper looks at."""

    def look(self, now: float) -> None:
        """Close it where its client is too slow or idle too long; ``now`` is the loop's time."""


class Reaper:
    """Looks at all connections once a second, for as long as there are any."""

    def __init__(self) -> None:
        self._timer: asyncio.TimerHandle | None = None

    def over(self, connections: Iterable[Any]) -> None:
        """Begin to look at ``connections``, and at those that are added to it later."""
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(LOOK_SECONDS, self._look, connections)

    def _look(self, connections: Iterable[Watched]) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        known = list(connections)
        for each in known:
            each.look(now)
        if known:
            self.over(connections)
