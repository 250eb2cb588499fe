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
from time import perf_counter

logger = logging.getLogger("zoo")


class Alarm:
    """Lives in one event loop; moments are of ``time.perf_counter``."""

    def __init__(self) -> None:
        self._calls: dict[int, tuple[float, Callable[[], object]]] = {}
        self._numbers = itertools.count()
        self._set_for = math.inf
        """When the timer rings at the latest."""
        self._timer: asyncio.TimerHandle | None = None

    def at(self, moment: float, ring: Callable[[], object]) -> int:
        """Have ``ring`` called then, at infinity never. Gives what `give_up` takes.

        What it raises is only logged.
        """
        number = next(self._numbers)
        self._calls[number] = moment, ring
        if moment < self._set_for:
            self._set(moment)
        return number

    def give_up(self, number: int) -> None:
        """Do not make a call; nothing, where it was made."""
        self._calls.pop(number, None)

    def _set(self, moment: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._set_for = moment
        left = max(0.0, moment - perf_counter())
        self._timer = asyncio.get_running_loop().call_later(left, self._ring)

    def _ring(self) -> None:
        self._timer, self._set_for = None, math.inf
        now = perf_counter()
        for number in [each for each, (moment, _) in self._calls.items() if moment <= now]:
            call = self._calls.pop(number, None)  # one that was made may have given it up
            try:
                if call is not None:
                    call[1]()
            except Exception:
                logger.exception("what a deadline calls failed")
        first = min((moment for moment, _ in self._calls.values()), default=math.inf)
        if first < self._set_for:
            self._set(first)
