"""Clients that are slow or idle, found by a look at every connection once a second.

One timer for all connections: a timer for each request would cost more than its parsing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol

LOOK_SECONDS = 1.0


class Limits(NamedTuple):
    """What one worker grants the connections of HTTP."""

    connections: int = 1024
    idle_s: float = 75.0
    """Without a request."""
    slow_s: float = 10.0
    """For a head, from its first byte on; and until the rate of bodies and answers counts."""
    rate: int = 1000
    """Bytes per second that must move after that, on average; 0: none."""

    def too_slow(self, moved: int, seconds: float) -> bool:
        """Whether so few bytes in so long are below the rate."""
        return bool(self.rate) and moved < self.rate * (seconds - self.slow_s)


class Watched(Protocol):
    """A connection."""

    def look(self, now: float) -> None:
        """End it where it is overdue; ``now`` is the loop's time."""


class Reaper:
    """Looks at connections for as long as there are any."""

    def __init__(self) -> None:
        self._timer: asyncio.TimerHandle | None = None

    def over(self, connections: Iterable[Any]) -> None:
        """Look at these from now on, and at those that are added."""
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
