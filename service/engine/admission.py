"""Admission: how many crops a worker takes on, and whom it refuses at once.

A permit is an argument of the call that enqueues, so work that was not admitted cannot exist.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from time import perf_counter
from types import TracebackType

from service.engine.turns import KINDS, LARGE, kind, weights
from service.errors import DeadlineExceeded, Overloaded

_WINDOW_S = 2.0
"""How far back the pace of the engine is looked for."""
_CAUTION = 1.4
"""What waits is taken to need this much longer than the pace says, which varies: an answer that
comes too late has cost its work all the same."""
_EVIDENCE = 16
"""Crops computed within the window from which on a pace is believed."""


class Permit:
    """The right to have ``crops`` crops in the engine until it is released."""

    __slots__ = ("_admission", "_parked", "crops", "kind", "left", "requests")

    def __init__(self, admission: Admission, crops: int, size: int) -> None:
        self._admission = admission
        self.crops = crops
        self.left = crops
        """Crops that are not computed yet."""
        self.kind = kind(size)
        self.requests = max(1, crops // size)
        """How many of this kind will stand in the engine's lines."""
        self._parked = 0

    def computed(self, crops: int) -> None:
        """So many crops were computed; may be called from any thread."""
        self._admission.computed(self, crops)

    def park(self) -> None:
        """Keep the places, but not the engine busy: the model has yet to be loaded."""
        self._parked = self.crops
        self._admission.park(self, parked=True)

    def resume(self) -> None:
        """End what `park` began."""
        if self._parked:
            self._parked = 0
            self._admission.park(self, parked=False)

    def release(self) -> None:
        """Give the places back; a second call does nothing."""
        if self.crops:
            self.resume()
            self._admission.release(self)
            self.crops = self.left = 0

    def __enter__(self) -> Permit:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()


class Admission:
    """Counts the crops that are accepted and not yet answered, in one event loop.

    While more work is there than threads, it also looks at what is computed, so that a request
    which could only wait until its deadline has passed is refused at once instead. What it knows is
    of the last seconds: once there is room, all of it is forgotten.
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
        self._changed = changed
        self._threads = threads
        self._clock = clock
        self._refused = refused
        self._left = [0] * KINDS
        """Crops yet to be computed, by the line in which they stand; what is parked aside."""
        self._standing = [0] * KINDS
        """Requests, likewise."""
        self._news: deque[tuple[float, Permit, int]] = deque()
        """What threads have computed and nobody has counted yet."""
        self._computed: deque[tuple[float, int]] = deque()
        """When, in the present rush, crops were computed, and how many."""
        self._pace_of = 0
        """The crops of these together."""
        self._since = 0.0
        self._last_pace = 0.0
        """Seconds per crop, when they were last known."""

    def acquire(
        self,
        crops: int,
        seconds: float = math.inf,
        *,
        size: int | None = None,
        expected: Callable[[], float] = lambda: 0.0,
    ) -> Permit:
        """Take a permit for a request that has ``seconds`` until its deadline.

        ``size`` is how many crops each of its pictures has, where it has several pictures;
        ``expected`` says what seconds a crop of its model takes the whole engine, which is
        believed of a large request as long as nothing was seen.

        Raises DeadlineExceeded when the deadline has passed, Overloaded when ``crops`` more do not
        fit, or when what is there already takes longer than ``seconds``. A request larger than the
        whole queue is let in when nothing else is there; otherwise it could never be answered.
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
        permit = Permit(self, crops, size or crops)
        self._count()
        busy = sum(self._left)
        if busy <= self._threads:
            self._begin()
        pace = self._pace()
        if not pace and busy > self._threads and permit.kind == LARGE:
            pace = self._guess(expected())
        wait = self._wait(permit, pace * _CAUTION)
        if wait > seconds:
            self._refused("too_late")
            raise Overloaded(
                f"{busy} crops are waiting, with which this takes about {wait:.1f} s; the deadline "
                f"is in {seconds:.1f} s",
                retry_after=math.ceil(wait - seconds),
            )
        self.in_use += crops
        self._enter(permit)
        self._changed(self.in_use)
        return permit

    def _wait(self, permit: Permit, pace: float) -> float:
        """Seconds until a newcomer is answered, at ``pace`` seconds per crop: after those in its
        line, which has its share of the engine, and at the latest after all.
        """
        standing = list(self._standing)
        standing[permit.kind] += permit.requests
        shares = weights(standing)
        own = self._left[permit.kind] + permit.crops
        everything = sum(self._left) + permit.crops
        return pace * min(own * sum(shares) / shares[permit.kind], everything)

    def _guess(self, expected: float) -> float:
        """Seconds per crop where this rush has shown none: a load may have been measured while
        others had the cores, so the last rush is believed where it was faster.
        """
        return min(expected, self._last_pace) if self._last_pace else expected

    def _begin(self) -> None:
        """There is room: whatever rush there was is over."""
        self._since = self._clock()
        self._computed.clear()
        self._pace_of = 0

    def _pace(self) -> float:
        """Seconds per crop over the last seconds of this rush; 0 where too little is known."""
        now = self._clock()
        while self._computed and self._computed[0][0] < now - _WINDOW_S:
            self._pace_of -= self._computed.popleft()[1]
        if self._pace_of < _EVIDENCE:
            return 0.0
        self._last_pace = min(_WINDOW_S, now - self._since) / self._pace_of
        return self._last_pace

    def computed(self, permit: Permit, crops: int) -> None:
        """Take note that crops were computed; `Permit.computed` calls this, in any thread."""
        self._news.append((self._clock(), permit, crops))

    def _count(self) -> None:
        """Count what the threads have computed since the last time."""
        while self._news:
            when, permit, crops = self._news.popleft()
            self._computed.append((when, crops))
            self._pace_of += crops
            done = min(crops, permit.left)
            permit.left -= done
            self._left[permit.kind] -= done

    def _enter(self, permit: Permit) -> None:
        self._left[permit.kind] += permit.left
        self._standing[permit.kind] += permit.requests

    def _leave(self, permit: Permit) -> None:
        self._left[permit.kind] -= permit.left
        self._standing[permit.kind] -= permit.requests

    def park(self, permit: Permit, *, parked: bool) -> None:
        """Count a permit as waiting for its model, or no more; `Permit.park` calls this."""
        self._count()
        (self._leave if parked else self._enter)(permit)

    def release(self, permit: Permit) -> None:
        """Give back the places of a permit; `Permit.release` calls this."""
        self._count()
        self._leave(permit)
        self.in_use -= permit.crops
        self._changed(self.in_use)
