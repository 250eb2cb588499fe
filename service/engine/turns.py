"""Decides whose crops are computed next.

Requests stand in three lines by their number of crops: one, the few of a ten-crop, or many. The
lines take turns. A line's share of the computed crops is proportional to its weight: the number of
requests in it, but at least a quarter of all waiting requests, so that single crops do not starve a
few large requests. Within a line the request with the earliest deadline is served first,
to its end: equal shares among large requests would let all of them miss their deadlines where some
could be answered.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Sequence
from typing import Generic, NamedTuple, Protocol, TypeVar

FEW = 16
"""Most crops of a request in the second line; a ten-crop has 10."""
KINDS = 3
"""The number of lines."""
LARGE = KINDS - 1
"""The line of requests with many crops."""
_LEAST = 0.25
"""The least weight of a line, as a share of the number of all requests."""


def kind(crops: int) -> int:
    """Return the line in which a request of so many crops stands: 0, 1 or 2."""
    return (crops > 1) + (crops > FEW)


def weights(standing: Sequence[int]) -> list[float]:
    """Return each line's weight for its share of the device; 0 for an empty line.

    ``standing`` is the number of requests in each line.
    """
    least = _LEAST * sum(standing)
    return [max(count, least) if count else 0.0 for count in standing]


class Waiting(Protocol):
    """A request that waits for its crops to be computed."""

    @property
    def size(self) -> int:
        """How many crops it has."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Height, width and channels of each crop."""

    @property
    def deadline(self) -> float:
        """The second, of any one clock, before which it must be answered."""

    taken: int
    """How many of its crops were taken into batches."""


R = TypeVar("R", bound=Waiting)


class Slice(NamedTuple, Generic[R]):
    """The crops from ``start`` to ``stop`` of a request."""

    request: R
    start: int
    stop: int


class _Line(Generic[R]):
    __slots__ = ("served", "standing")

    def __init__(self) -> None:
        self.standing: list[tuple[float, int, R]] = []
        """Deadline, number of arrival and request, in that order."""
        self.served = 0.0
        """The crops that were taken, each divided by the line's weight at that time."""

    def first(self, shape: tuple[int, ...] | None) -> R | None:
        """Return the first request whose crops have this shape (None: any), or None."""
        for _, _, request in self.standing:
            if shape is None or request.shape == shape:
                return request
        return None


class Turns(Generic[R]):
    """The requests that wait for a device. Not safe to use from several threads."""

    def __init__(self) -> None:
        self._lines: tuple[_Line[R], ...] = tuple(_Line() for _ in range(KINDS))
        self._came = 0

    def __len__(self) -> int:
        return sum(len(line.standing) for line in self._lines)

    def __bool__(self) -> bool:
        return any(line.standing for line in self._lines)

    def add(self, request: R) -> None:
        """Put a request into its line."""
        line = self._lines[kind(request.size)]
        if not line.standing:  # a line that was empty must not catch up on the turns it missed
            others = [other.served for other in self._lines if other.standing]
            latest = max(other.served for other in self._lines)
            line.served = max(line.served, min(others, default=latest))
        self._came += 1
        insort(line.standing, (request.deadline, self._came, request))

    def remove(self, request: R) -> bool:
        """Take a request out of its line. Returns whether it stood there."""
        standing = self._lines[kind(request.size)].standing
        for place, (_, _, other) in enumerate(standing):
            if other is request:
                del standing[place]
                return True
        return False

    def expired(self, now: float) -> list[R]:
        """Take out and return the requests whose deadline is ``now`` or earlier."""
        gone: list[R] = []
        for line in self._lines:
            count = 0
            while count < len(line.standing) and line.standing[count][0] <= now:
                gone.append(line.standing[count][2])
                count += 1
            del line.standing[:count]
        return gone

    def take(self, room: int) -> list[Slice[R]]:
        """Take up to ``room`` crops of one shape. A request without crops left leaves its line."""
        taken: dict[int, Slice[R]] = {}
        shape: tuple[int, ...] | None = None
        weight = weights([len(line.standing) for line in self._lines])
        able = [number for number, line in enumerate(self._lines) if line.standing]
        while room and able:
            number = min(able, key=lambda each: self._lines[each].served)
            line = self._lines[number]
            request = line.first(shape)
            if request is None:
                able.remove(number)
                continue
            shape = request.shape
            left = request.size - request.taken
            count = min(left, room if len(able) == 1 else 1)
            line.served += count / weight[number]
            room -= count
            request.taken += count
            start = taken[id(request)].start if id(request) in taken else request.taken - count
            taken[id(request)] = Slice(request, start, request.taken)
            if count == left:
                self.remove(request)
        return list(taken.values())
