"""Calls at given moments, nearly all of which are given up before: deadlines.

The event loop has one timer for all of them, set for the first. To make one for every request, and
cancel it, takes longer than all else that a deadline needs.
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
"""So much later than asked for the timer is set: uvloop's may ring half a millisecond early."""
_FEW = 256
"""Moments of what was given up that are not worth a thought."""


class Deadlines:
    """Lives in one event loop; moments are of ``time.perf_counter``."""

    def __init__(self) -> None:
        self._calls: dict[int, Callable[[], object]] = {}
        self._moments: list[tuple[float, int]] = []
        """A heap; calls that were given up leave theirs behind."""
        self._numbers = itertools.count()
        self._set_for = math.inf
        """When the timer rings at the latest."""
        self._timer: asyncio.TimerHandle | None = None

    def at(self, moment: float, ring: Callable[[], object]) -> int:
        """Have ``ring`` called then, at infinity never. Gives what `give_up` takes.

        What is due together is called in order of its moments. What ``ring`` raises is only logged.
        """
        number = next(self._numbers)
        self._calls[number] = ring
        heappush(self._moments, (moment, number))
        if moment < self._set_for:
            self._set(moment)
        return number

    def give_up(self, number: int) -> None:
        """Do not make a call; nothing, where it was made."""
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
        self._set_for = -math.inf  # what is set meanwhile waits for the end of this
        now = perf_counter()
        while self._moments and (self._moments[0][0] <= now or self._given_up()):
            _, number = heappop(self._moments)
            ring = self._calls.pop(number, None)
            try:
                if ring is not None:
                    ring()
            except Exception:  # of whatever kind: it is no reason not to ring the others
                logger.exception("what a deadline calls failed")
        self._set_for = math.inf
        if self._moments and self._moments[0][0] < math.inf:
            self._set(self._moments[0][0])

    def _given_up(self) -> bool:
        return self._moments[0][1] not in self._calls
