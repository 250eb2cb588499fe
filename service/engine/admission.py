"""Decides how many crops a worker takes on, and refuses at once the requests beyond that.

A permit is an argument of the call that enqueues, so work that was not admitted cannot exist.
"Pace" below is the seconds that the engine takes per crop, measured over the last seconds.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from time import perf_counter

from service.engine.turns import KINDS, LARGE, kind, weights
from service.errors import DeadlineExceeded, Overloaded

_WINDOW_S = 2.0
"""The pace is measured over so many seconds."""
_CAUTION = 1.4
"""Safety factor on the estimated wait: the pace varies, and an answer that comes too late is wasted
work."""
_EVIDENCE = 16
"""The least crops that must have been computed within the window for a pace to be believed."""


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
        """How many requests of this kind the batcher gets for it, one for each picture."""
        self._parked = 0

    def computed(self, crops: int) -> None:
        """Note that ``crops`` of them were computed. May be called from any thread."""
        self._admission.computed(self, crops)

    def park(self) -> None:
        """Do not count these crops as work of the engine for now: their model has yet to be loaded.

        They still count as admitted.
        """
        self._parked = self.crops
        self._admission.park(self, parked=True)

    def resume(self) -> None:
        """End what `park` began."""
        if self._parked:
            self._parked = 0
            self._admission.park(self, parked=False)

    def release(self) -> None:
        """Give the permit back; a second call does nothing."""
        if self.crops:
            self.resume()
            self._admission.release(self)
            self.crops = self.left = 0

    def __enter__(self) -> Permit:
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        self.release()


class Admission:
    """Counts the crops that are admitted and not yet answered, in one event loop.

    In a rush, that is while more crops are yet to be computed than there are threads, it also
    measures the pace, and refuses at once a request that could only wait until its deadline has
    passed. It knows only the last seconds, and forgets them when the rush is over.
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
        """Admit up to ``capacity`` crops to an engine of ``threads`` threads.

        ``changed`` is told how many crops are admitted whenever that changes; ``refused`` is told
        why a request is refused: `queue_full` or `too_late`.
        """
        self.capacity = capacity
        self.in_use = 0
        self._changed = changed
        self._threads = threads
        self._clock = clock
        self._refused = refused
        self._left = [0] * KINDS
        """Crops yet to be computed, by the line in which they stand, without parked ones."""
        self._standing = [0] * KINDS
        """Requests with such crops, by line."""
        self._news: deque[tuple[float, Permit, int]] = deque()
        """What threads have computed and `_count` has not counted yet: when, for which permit, how
        many crops."""
        self._computed: deque[tuple[float, int]] = deque()
        """When crops were computed in this rush, within the window, and how many."""
        self._pace_of = 0
        """The sum of the crops in `_computed`."""
        self._since = 0.0
        """When this rush began."""
        self._last_pace = 0.0
        """The pace when it was last known, in seconds per crop; 0: never."""

    def acquire(
        self,
        crops: int,
        seconds: float = math.inf,
        *,
        size: int | None = None,
        expected: Callable[[], float] = lambda: 0.0,
    ) -> Permit:
        """Take a permit for a request of ``crops`` crops that has ``seconds`` until its deadline.

        ``size`` is the number of crops of each of its pictures, where it has several pictures.
        ``expected`` returns the seconds per crop of its model when the whole engine computes it;
        they are used for a large request as long as no pace was measured.

        Raises DeadlineExceeded when the deadline has passed, Overloaded when ``crops`` more exceed
        the capacity, or when the wait would be longer than ``seconds``. A request larger than the
        capacity is admitted when no other is; otherwise it could never be answered.
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
        """Estimate the seconds until a new request is answered, at ``pace`` seconds per crop.

        It waits for the crops in its line, which gets its share of the engine, but never longer
        than all crops together take.
        """
        standing = list(self._standing)
        standing[permit.kind] += permit.requests
        shares = weights(standing)
        own = self._left[permit.kind] + permit.crops
        everything = sum(self._left) + permit.crops
        return pace * min(own * sum(shares) / shares[permit.kind], everything)

    def _guess(self, expected: float) -> float:
        """Return the seconds per crop to assume while this rush has shown no pace.

        ``expected`` was measured at load, perhaps while others had the cores, so the pace of the
        last rush is taken where it was faster.
        """
        return min(expected, self._last_pace) if self._last_pace else expected

    def _begin(self) -> None:
        """Forget the last rush: there is room, and the next one begins now at the earliest."""
        self._since = self._clock()
        self._computed.clear()
        self._pace_of = 0

    def _pace(self) -> float:
        """Return the seconds per crop over the last seconds of this rush; 0: too few crops."""
        now = self._clock()
        while self._computed and self._computed[0][0] < now - _WINDOW_S:
            self._pace_of -= self._computed.popleft()[1]
        if self._pace_of < _EVIDENCE:
            return 0.0
        self._last_pace = min(_WINDOW_S, now - self._since) / self._pace_of
        return self._last_pace

    def computed(self, permit: Permit, crops: int) -> None:
        """Note that crops of ``permit`` were computed, from any thread; for `Permit.computed`."""
        self._news.append((self._clock(), permit, crops))

    def _count(self) -> None:
        """Count what the threads have computed since the last call."""
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
        """Leave a permit's crops out of the engine's work, or count them again; for `Permit`."""
        self._count()
        (self._leave if parked else self._enter)(permit)

    def release(self, permit: Permit) -> None:
        """Take back a permit; for `Permit.release`."""
        self._count()
        self._leave(permit)
        self.in_use -= permit.crops
        self._changed(self.in_use)
