"""What is counted for requests, and their lines in the log, are written a moment later, in a row.

Between two pieces of other work, to write one takes longer than in a row: the processor's caches
are full of a network's weights. Who reads metrics asks first that all be `written`. A process that
is killed loses what waits.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeAlias

from prometheus_client import Gauge

logger = logging.getLogger("zoo.metrics")

DELAY_S = 0.05
"""How long something waits, while the event loop is not held up."""
OTHERS_S = 3 * DELAY_S
"""In which other workers write what they have counted until now, though they be busy."""
AT_ONCE = 32
"""Calls in a row; one of a request of many pictures takes a millisecond."""

Write: TypeAlias = Callable[..., object]


class Gathering:
    """Calls that can wait. Outside `begin` and `end` they are made at once."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._due = False
        """Whether a flush is to come."""
        self._calls: deque[tuple[Write, tuple[Any, ...]]] = deque()
        self._values: dict[Gauge, float] = {}

    def begin(self) -> None:
        """From now on the running event loop makes the calls."""
        loop = self._loop = asyncio.get_running_loop()
        self._due = False
        if self._calls or self._values:
            self._remember(loop)

    def end(self) -> None:
        """Make what waits; from now on nothing does."""
        self._loop = None
        self.flush()

    def call(self, write: Write, *values: Any) -> None:
        """Have ``write(*values)`` called, from any thread. What it raises then is only logged."""
        loop = self._loop
        if loop is None:
            write(*values)
            return
        self._calls.append((write, values))
        if self._loop is None:  # it has ended meanwhile
            self.flush()
        elif not self._due:
            self._remember(loop)

    def set(self, gauge: Gauge, value: float) -> None:
        """Have a gauge set, unless it is set anew before. In the event loop alone."""
        if self._loop is None:
            gauge.set(value)
            return
        self._values[gauge] = value
        if not self._due:
            self._remember(self._loop)

    async def written(self, *, alone: bool) -> None:
        """Wait until all is made; where this process is not ``alone``, that of other workers too.

        What these have counted when this is called will be written when it ends, unless their
        event loops are held up for long.
        """
        if not alone:
            await asyncio.sleep(OTHERS_S)
        self.flush()

    def flush(self) -> None:
        """Make what waits, now."""
        self._due = False
        self._make(len(self._calls))
        while self._values:
            gauge, value = self._values.popitem()
            gauge.set(value)

    def _make(self, most: int) -> None:
        for _ in range(most):
            try:
                write, values = self._calls.popleft()
            except IndexError:  # another thread was faster, at the end
                return
            try:
                write(*values)
            except Exception:  # of whatever kind: it is no reason not to make the others
                logger.exception("what was counted cannot be written")

    def _remember(self, loop: asyncio.AbstractEventLoop) -> None:
        self._due = True
        with suppress(RuntimeError):  # it was closed without `end`
            loop.call_soon_threadsafe(loop.call_later, DELAY_S, self._begin_to_flush, loop)

    def _begin_to_flush(self, loop: asyncio.AbstractEventLoop) -> None:
        """Make some of what waits, and let others have their turn before the rest."""
        if loop is not self._loop:
            return
        self._make(AT_ONCE)
        if self._calls:
            loop.call_soon(self._begin_to_flush, loop)
        else:
            self.flush()


gathering = Gathering()
"""That of this process."""
