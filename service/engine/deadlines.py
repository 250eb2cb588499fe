"""Calls functions when deadlines pass, with one timer of the event loop for all of them.

Nearly every deadline is given up before it passes. To make a timer for every request, and to cancel
it, would take longer than all else that a deadline needs; so the one timer is set for the earliest.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from time import perf_counter

logger = logging.getLogger("zoo")

LATE_S = 0.001
"""Seconds after the deadline for which the timer is set: uvloop's may ring half a ms early."""
_FEW = 256
"""So many moments of deadlines that were given up may stay in the heap before it is rebuilt."""


class Deadlines:
    """All deadlines of one event loop. Moments are seconds of ``time.perf_counter``."""

    def __init__(self) -> None:
        self._calls: dict[int, Callable[[], object]] = {}
        self._moments: list[tuple[float, int]] = []
        """A heap of moments and numbers. The moment of a call that was given up stays in it."""
        self._numbers = itertools.count()
        self._set_for = math.inf
        """The moment for which the timer is set; -inf while `_ring` runs."""
        self._timer: asyncio.TimerHandle | None = None

    def at(self, moment: float, ring: Callable[[], object]) -> int:
        """Have ``ring`` called at ``moment``; never, where that is infinite.

        Returns the number that `give_up` takes. Calls that are due together are made in the order
        of their moments. An exception of ``ring`` is logged.
        """
        number = next(self._numbers)
        self._calls[number] = ring
        heappush(self._moments, (moment, number))
        if moment < self._set_for:
            self._set(moment)
        return number

    def give_up(self, number: int) -> None:
        """Cancel a call. Does nothing where it was made already."""
        self._calls.pop(number, None)
        if len(self._moments) > 2 * len(self._calls) + _FEW:
            self._moments = [each for each in self._moments if each[1] in self._calls]
            heapify(self._moments)

    def _set(self, moment: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._set_for = moment
        left = max(0.0, moment - perf_counter()) + LATE_S
        self._timer = asyncio.get_running_loop().call_later(left, self._ring)

    def _ring(self) -> None:
        self._timer = None
        self._set_for = -math.inf  # so that `at`, called by a `ring`, leaves the timer to us
        now = perf_counter()
        while self._moments and (self._moments[0][0] <= now or self._given_up()):
            _, number = heappop(self._moments)
            ring = self._calls.pop(number, None)
            try:
                if ring is not None:
                    ring()
            except Exception:  # of any kind: the other calls must be made all the same
                logger.exception("what a deadline calls failed")
        self._set_for = math.inf
        if self._moments and self._moments[0][0] < math.inf:
            self._set(self._moments[0][0])

    def _given_up(self) -> bool:
        return self._moments[0][1] not in self._calls
