"""Admission: how many crops a worker takes on, and whom it refuses at once.

A permit is an argument of the call that enqueues, so work that was not admitted cannot exist.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from time import perf_counter
from types import TracebackType

from service.errors import DeadlineExceeded, Overloaded

_WINDOW_S = 2.0
"""How far back the pace of the engine is looked for."""
_CAUTION = 1.4
"""What waits is taken to need this much longer than the pace says, which varies: an answer that
comes too late has cost its work all the same."""
_EVIDENCE = 16
"""Answers within the window from which on a pace is believed."""


class Permit:
    """The right to have ``crops`` crops in the engine until it is released."""

    __slots__ = ("_admission", "_parked", "crops")

    def __init__(self, admission: Admission, crops: int) -> None:
        self._admission = admission
        self.crops = crops
        self._parked = 0

    def park(self) -> None:
        """Keep the places, but not the engine busy: the model has yet to be loaded."""
        self._parked = self.crops
        self._admission.park(self.crops)

    def resume(self) -> None:
        """End what `park` began."""
        self._admission.park(-self._parked)
        self._parked = 0

    def release(self, *, answered: bool = True) -> None:
        """Give the places back; a second call does nothing."""
        self._admission.release(self.crops, self._parked, answered=answered)
        self.crops = self._parked = 0

    def __enter__(self) -> Permit:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release(answered=kind is None)


class Admission:
    """Counts the crops that are accepted and not yet answered, in one event loop.

    While more work is there than threads, it also counts what is answered, so that a request which
    could only wait until its deadline has passed is refused at once instead. What it knows is of
    the last seconds: once there is room, all of it is forgotten.
    """

    def __init__(
        self,
        capacity: int,
        changed: Callable[[int], None],
        *,
        threads: int = 1,
        clock: Callable[[], float] = perf_counter,
        refused: Callable[[str], None] = lambda _: None,
    ) -> None:
        """``changed`` is told how many crops are admitted whenever that changes.

        ``refused`` is told why a request is refused: `queue_full` or `too_late`.
        """
        self.capacity = capacity
        self.in_use = 0
        self._parked = 0
        self._changed = changed
        self._threads = threads
        self._clock = clock
        self._refused = refused
        self._answers: deque[tuple[float, int]] = deque()
        """When, in the present rush, a permit was given back, and its crops."""
        self._answered = 0
        """The crops of these together."""
        self._since = 0.0

    def acquire(self, crops: int, seconds: float = math.inf) -> Permit:
        """Take a permit for a request that has ``seconds`` until its deadline.

        Raises DeadlineExceeded when it has passed, Overloaded when ``crops`` more do not fit, or
        when what is there already takes longer than ``seconds``. A request larger than the whole
        queue is let in when nothing else is there; otherwise it could never be answered.
        """
        if seconds <= 0:
            raise DeadlineExceeded("the deadline passed before the request was accepted")
        if self.in_use and self.in_use + crops > self.capacity:
            self._refused("queue_full")
            raise Overloaded(
                f"{self.in_use} crops are waiting, {crops} more do not fit into the queue of "
                f"{self.capacity}",
                retry_after=1,
            )
        busy = self.in_use - self._parked
        if busy <= self._threads:
            self._begin()
        wait = (busy + crops) * self._pace() * _CAUTION
        if wait > seconds:
            self._refused("too_late")
            raise Overloaded(
                f"{busy} crops are waiting, which take about {wait:.1f} s; the deadline is "
                f"in {seconds:.1f} s",
                retry_after=math.ceil(wait - seconds),
            )
        self.in_use += crops
        self._changed(self.in_use)
        return Permit(self, crops)

    def _begin(self) -> None:
        """There is room: whatever rush there was is over."""
        self._since = self._clock()
        self._answers.clear()
        self._answered = 0

    def _pace(self) -> float:
        """Seconds per crop over the last seconds of this rush; 0 where too little is known."""
        now = self._clock()
        while self._answers and self._answers[0][0] < now - _WINDOW_S:
            self._answered -= self._answers.popleft()[1]
        if len(self._answers) < _EVIDENCE:
            return 0.0
        return min(_WINDOW_S, now - self._since) / self._answered

    def park(self, crops: int) -> None:
        """Count this many of the crops as waiting for their model; `Permit.park` calls this."""
        self._parked += crops

    def release(self, crops: int, parked: int = 0, *, answered: bool = True) -> None:
        """Give back the places of a permit; `Permit.release` calls this."""
        if crops and answered and not parked:
            self._answers.append((self._clock(), crops))
            self._answered += crops
        self._parked -= parked
        self.in_use -= crops
        self._changed(self.in_use)
