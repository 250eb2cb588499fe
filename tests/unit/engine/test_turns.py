"""Which crops are taken next: lines by their shares, and one shape at a time."""

from __future__ import annotations

import math

import pytest

from service.engine.turns import FEW, Turns, kind, weights

SMALL, LARGE = (224, 224, 3), (300, 400, 3)


class Waiting:
    """A request for crops of one shape."""

    def __init__(
        self, size: int, deadline: float = math.inf, shape: tuple[int, ...] = SMALL
    ) -> None:
        self.size, self.deadline, self.shape = size, deadline, shape
        self.taken = 0


def test_the_lines() -> None:
    assert [kind(crops) for crops in (1, 2, 10, FEW, FEW + 1, 144)] == [0, 1, 1, 1, 2, 2]
    assert weights([8, 0, 2]) == [8, 0, 2.5]  # none gets less than a quarter of an equal share
    assert weights([1, 1, 1]) == [1, 1, 1]
    assert weights([0, 0, 7]) == [0, 0, 7]


@pytest.mark.parametrize(
    ("singles", "large", "share"),
    [(9, 1, 9 / 11.5), (5, 5, 0.5), (1, 9, 2.5 / 11.5)],
)
def test_lines_share_the_device_by_how_many_stand_in_them(
    singles: int, large: int, share: float
) -> None:
    """As long as so many stand there: whoever is served comes again."""
    turns: Turns[Waiting] = Turns()
    for _ in range(singles):
        turns.add(Waiting(1))
    for _ in range(large):
        turns.add(Waiting(10_000))
    served = 0
    for _ in range(1000):
        (part,) = turns.take(1)
        if part.request.size == 1:
            served += 1
            turns.add(Waiting(1))
    assert served / 1000 == pytest.approx(share, abs=0.01)


def test_a_batch_has_one_shape_and_the_others_keep_their_place() -> None:
    turns: Turns[Waiting] = Turns()
    first, other, last = Waiting(1, 1.0), Waiting(1, 2.0, LARGE), Waiting(1, 3.0)
    for request in (last, other, first):
        turns.add(request)
    assert [part.request for part in turns.take(8)] == [first, last]
    assert [part.request for part in turns.take(8)] == [other]
    assert not turns


def test_the_earliest_deadline_is_served_to_its_end() -> None:
    turns: Turns[Waiting] = Turns()
    late, early = Waiting(20, 9.0), Waiting(20, 5.0)
    turns.add(late)
    turns.add(early)
    taken = [(part.request, part.start, part.stop) for _ in range(5) for part in turns.take(8)]
    assert taken == [
        *((early, 0, 8), (early, 8, 16), (early, 16, 20)),
        *((late, 0, 4), (late, 4, 12), (late, 12, 20)),
    ]
    assert not turns


def test_what_has_expired_is_taken_out() -> None:
    turns: Turns[Waiting] = Turns()
    waiting = {seconds: Waiting(1, seconds) for seconds in (1.0, 2.0, 3.0)}
    for request in waiting.values():
        turns.add(request)
    assert turns.expired(2.0) == [waiting[1.0], waiting[2.0]]
    assert len(turns) == 1
    assert turns.remove(waiting[3.0])
    assert not turns.remove(waiting[3.0])
