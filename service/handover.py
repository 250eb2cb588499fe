"""Results on their way from threads to the event loop: several at a time while much waits.

To wake the loop for a result costs more than what the loop does then: it takes a core from a thread
that computes, and the processor's caches are full of a network's weights. While many pictures wait,
those whose results are a moment late would have waited for longer, and their successors do. So
results are gathered then, and answered in a row; so are the requests that come upon that.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from time import perf_counter
from typing import Any

from service.engine.pool import Pool, settle

HOLD_S = 0.05
"""How long a result is held at most, unless the event loop is held up."""
LONG = 4
"""Pictures that wait, for each thread, above which results are held."""
MOST_HELD = 3
"""Results, for each thread, that are handed over whatever waits."""


class Handover:
    """Settles futures of one event loop. Made there; results may come from any thread."""

    def __init__(self, pool: Pool) -> None:
        """``pool``: the threads that the results come from, and that pictures wait for."""
        self._loop = asyncio.get_running_loop()
        self._waiting = pool.waiting
        self._long, self._most = LONG * pool.threads, MOST_HELD * pool.threads
        self._held: deque[tuple[asyncio.Future[Any], object, BaseException | None]] = deque()
        self._since = 0.0
        """When the first of them came, by ``time.perf_counter``."""
        self._called = False
        """Whether the loop will come by anyhow."""
        self._expected = 0
        self._looks = False
        """Whether it looks in now and then."""

    def __enter__(self) -> None:
        """A result is expected. In the event loop."""
        self._expected += 1
        if not self._looks:
            self._looks = True
            self._loop.call_later(HOLD_S, self._look)

    def __exit__(self, *failure: object) -> None:
        self._expected -= 1

    def put(self, future: asyncio.Future[Any], result: object, error: BaseException | None) -> None:
        """Give a future its result or its exception, unless its owner did not wait."""
        if not self._held:
            self._since = perf_counter()
        self._held.append((future, result, error))
        if self._called:
            return
        if len(self._held) >= self._most or self._waiting() <= self._long:
            self._called = True
            with suppress(RuntimeError):  # the loop was closed: nobody waits any more
                self._loop.call_soon_threadsafe(self.deliver)

    def deliver(self) -> None:
        """Settle what is held, now. In the event loop."""
        self._called = False  # first: what comes from here on may call anew
        while self._held:
            settle(*self._held.popleft())

    def _look(self) -> None:
        """See that nothing is held for too long."""
        left = HOLD_S
        if self._held:
            left += self._since - perf_counter()
        if left <= 0:
            self.deliver()
            left = HOLD_S
        self._looks = self._expected > 0
        if self._looks:
            self._loop.call_later(left, self._look)
