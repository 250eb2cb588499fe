"""How many requests of a stream are read before their answers are taken."""

from __future__ import annotations

import asyncio
import math
from typing import Any

from service.dataplane.body_budget import BodyBudget
from service.transports.grpc.stream import Stream

WINDOW, ALL = 4, 20


class Asked:
    """What a client sends: as much as it may."""

    size = 1

    def __init__(self) -> None:
        self.read = 0

    def __aiter__(self) -> Asked:
        return self

    async def __anext__(self) -> int:
        if self.read == ALL:
            raise StopAsyncIteration
        self.read += 1
        return self.read


async def test_no_more_than_the_window_are_in_work_or_unread() -> None:
    gate, asked, budget = asyncio.Event(), Asked(), BodyBudget(1000)

    async def answer(request: int, patience: Any) -> int:
        await gate.wait()
        return request

    def failure(request: int, error: Any) -> int:
        raise AssertionError(error)

    stream: Stream[int, int] = Stream(answer, failure, failure, budget, WINDOW, math.inf)
    answers = stream.answers(asked)  # type: ignore[arg-type]
    first = asyncio.ensure_future(anext(answers))
    for _ in range(100):  # whatever could be read has been
        await asyncio.sleep(0)
    assert asked.read == budget.in_use == WINDOW
    gate.set()
    found = [await first]
    for _ in range(100):
        await asyncio.sleep(0)
    assert asked.read == WINDOW  # the first answer was made, and is taken with the next
    async for each in answers:
        found.append(each)
        assert asked.read <= len(found) + WINDOW
    assert sorted(found) == list(range(1, ALL + 1))
    assert budget.in_use == 0
