"""The limits of a request: bytes of bodies, classes of an answer, tries of one that was refused."""

from __future__ import annotations

from contextlib import nullcontext

import pytest

from service.dataplane.body_budget import BodyBudget
from service.dataplane.query import Query
from service.dataplane.retry import all_or_raise, patiently
from service.errors import BadParameter, Overloaded, PictureTooLarge


def test_bodies_fit_up_to_the_last_byte() -> None:
    budget = BodyBudget(100)
    budget.take(60)
    budget.take(40)
    with pytest.raises(Overloaded, match="100 bytes are being received or answered") as refused:
        budget.take(1)
    assert refused.value.retry_after == 1
    budget.give(40)
    with pytest.raises(Overloaded):
        budget.take(41)
    budget.take(40)
    budget.give(100)
    assert budget.in_use == 0


@pytest.mark.parametrize(
    ("top_k", "classes", "answered"),
    [(None, 1000, 5), (None, 3, 3), (1, 10, 1), (10, 10, 10), (0, 10, None), (11, 10, None)],
)
def test_as_many_classes_as_there_are(
    top_k: int | None, classes: int, answered: int | None
) -> None:
    query = Query(top_k=top_k)
    refusal = pytest.raises(BadParameter, match=f"top_k is {top_k}, model 'net' allows 1 to 10")
    with nullcontext() if answered else refusal:
        assert query.classes_of("net", classes) == answered


@pytest.mark.parametrize("rooms", [0, 1, 3])
async def test_a_request_is_tried_again_while_its_patience_says_so(rooms: int) -> None:
    tries = 0

    async def work() -> str:
        nonlocal tries
        tries += 1
        if tries <= rooms:
            raise Overloaded("full")
        return "answered"

    async def patience() -> bool:
        return True

    assert await patiently(work, patience) == "answered"
    assert tries == rooms + 1


async def test_without_patience_or_at_its_end_it_is_refused() -> None:
    async def work() -> str:
        raise Overloaded("full")

    async def impatience() -> bool:
        return False

    for patience in (None, impatience):
        with pytest.raises(Overloaded):
            await patiently(work, patience)


def test_the_first_error_is_raised_with_the_place_of_its_picture() -> None:
    assert all_or_raise(["an answer", "another"]) == ["an answer", "another"]
    errors = [PictureTooLarge("too large"), Overloaded("full", retry_after=3)]
    with pytest.raises(PictureTooLarge, match="picture 1: too large"):
        all_or_raise(["an answer", *errors])
    with pytest.raises(Overloaded, match="picture 0: full") as refused:
        all_or_raise(errors[1:])
    assert refused.value.retry_after == 3
