"""Results on their way from threads to the event loop: several at a time under a long queue.

To wake the loop for one takes a core from a thread that computes, and it then works with caches
full of a network's weights. So while many pictures wait, results are gathered for a moment and
answered in a row, and the requests that clients send upon that are read in a row.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from contextlib import suppress
from time import perf_counter
from typing import Any

from service.engine.pool import settle

logger = logging.getLogger("zoo")

HOLD_S = 0.05
"""How long a result is held at most, unless the event loop is held up."""
LAST_S = 0.1
"""A result is not held when its deadline is so near."""
LONG = 4
"""Pictures that wait, for each thread, above which results are held."""
MOST_HELD = 3
"""Results, for each thread, that are handed over whatever waits."""


class Handover:
    """Settles futures of one event loop, in which it is made."""

    def __init__(self, threads: int) -> None:
        """``threads`` is how many the results come from."""
        self._loop = asyncio.get_running_loop()
        self._long, self._most = LONG * threads, MOST_HELD * threads
        self._waiting: set[object] = set()
        self._held: deque[tuple[asyncio.Future[Any], object, BaseException | None]] = deque()
        self._since = 0.0
        """When the first of them came, by ``time.perf_counter``."""
        self._called = False
        """Whether the loop will come by anyhow."""
        self._expected = 0
        self._looks = False
        """Whether it looks in now and then."""

    def expect(self, work: object) -> None:
        """Something waits for a thread; a result of it will be `put`. In the event loop."""
        self._waiting.add(work)
        self._expected += 1
        if not self._looks:
            self._looks = True
            self._loop.call_later(HOLD_S, self._look)

    def begun(self, work: object) -> None:
        """A thread has taken it, any thread may say."""
        self._waiting.discard(work)

    def forget(self, work: object) -> None:
        """Its result came, or nobody waits for it any more. In the event loop."""
        self._waiting.discard(work)
        self._expected -= 1
        if self._held and len(self._waiting) <= self._long:
            self.deliver()

    def put(
        self,
        future: asyncio.Future[Any],
        result: object,
        error: BaseException | None,
        deadline: float,
    ) -> None:
        """Give a future its result or its exception, unless its owner did not wait.

        Any thread may. ``deadline``, by ``time.perf_counter``, is that of the owner.
        """
        now = perf_counter()
        if not self._held:
            self._since = now
        self._held.append((future, result, error))
        if self._called:
            return
        long = len(self._waiting) > self._long
        if not long or len(self._held) >= self._most or deadline <= now + LAST_S:
            self._called = True
            with suppress(RuntimeError):  # the loop was closed: nobody waits any more
                self._loop.call_soon_threadsafe(self.deliver)

    def deliver(self) -> None:
        """Settle what is held, now. In the event loop."""
        self._called = False  # first: what comes from here on may call anew
        while self._held:
            try:
                settle(*self._held.popleft())
            except Exception:  # of whatever kind: it is no reason not to settle the others
                logger.exception("a result cannot be handed over")

    def _look(self) -> None:
        """See that nothing is held for too long."""
        left = HOLD_S
        if self._held:
            left += self._since - perf_counter()
        if left <= 0:
            self.deliver()
            left = HOLD_S
        self._looks = self._expected > 0 or bool(self._held)
        if self._looks:
            self._loop.call_later(left, self._look)
