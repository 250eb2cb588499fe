"""Results that threads hand to the event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from time import perf_counter
from types import SimpleNamespace
from typing import Any

import pytest

from service import handover
from service.handover import LONG, MOST_HELD, Handover

THREADS = 2


class Loop:
    """Stands before the running loop, and counts how often a thread calls it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls = 0
        loop = asyncio.get_running_loop()
        call = loop.call_soon_threadsafe

        def counted(callback: Callable[..., object], *values: Any) -> object:
            self.calls += callback.__name__ == "deliver"
            return call(callback, *values)

        monkeypatch.setattr(loop, "call_soon_threadsafe", counted)


class Place:
    """A handover beside so many pictures that wait."""

    def __init__(self, waiting: int) -> None:
        self.waits = waiting
        pool: Any = SimpleNamespace(threads=THREADS, waiting=lambda: self.waits)
        self.handover = Handover(pool)

    def put(self, result: object = None, error: BaseException | None = None) -> asyncio.Future[Any]:
        """From a thread, whose end is waited for; nothing else is done meanwhile."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        thread = threading.Thread(target=self.handover.put, args=(future, result, error))
        thread.start()
        thread.join(10)
        return future


@pytest.fixture
async def loop(monkeypatch: pytest.MonkeyPatch) -> Loop:
    return Loop(monkeypatch)


@pytest.mark.parametrize("waiting", [0, LONG * THREADS])
async def test_where_little_waits_each_result_comes_at_once(loop: Loop, waiting: int) -> None:
    place = Place(waiting)
    for number in range(3):
        assert await asyncio.wait_for(place.put(number), 10) == number
    assert loop.calls == 3


async def test_where_much_waits_they_come_together(loop: Loop) -> None:
    place = Place(LONG * THREADS + 1)
    futures = [place.put(number) for number in range(MOST_HELD * THREADS - 1)]
    await asyncio.sleep(0.01)
    assert loop.calls == 0
    assert not any(future.done() for future in futures)
    futures.append(place.put(error=ValueError("the last")))
    *results, last = await asyncio.wait_for(asyncio.gather(*futures, return_exceptions=True), 10)
    assert results == list(range(MOST_HELD * THREADS - 1))
    assert isinstance(last, ValueError)
    assert loop.calls == 1


async def test_when_the_queue_becomes_short_the_held_come_with_the_next(loop: Loop) -> None:
    place = Place(100)
    first = place.put("first")
    place.waits = 0
    assert await asyncio.wait_for(place.put("second"), 10) == "second"
    assert first.result() == "first"
    assert loop.calls == 1


async def test_a_loop_that_was_called_is_not_called_again_before_it_came(loop: Loop) -> None:
    place = Place(0)
    futures = [place.put(number) for number in range(20)]
    assert await asyncio.wait_for(asyncio.gather(*futures), 10) == list(range(20))
    assert loop.calls == 1


async def test_nothing_is_held_for_long(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handover, "HOLD_S", 0.2)
    place = Place(100)
    with place.handover:
        for number in range(2):
            await asyncio.sleep(0.13)  # in between two looks
            begun = perf_counter()
            assert await asyncio.wait_for(place.put(number), 10) == number
            assert perf_counter() - begun >= 0.18
    assert loop.calls == 0


async def test_the_loop_looks_only_while_something_is_expected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(handover, "HOLD_S", 0.01)
    looks = []
    look = Handover._look
    monkeypatch.setattr(Handover, "_look", lambda own: looks.append(look(own)))
    place = Place(0)
    for _ in range(2):
        looks.clear()
        with place.handover, place.handover:
            await asyncio.sleep(0.1)
        seen = len(looks)
        assert 2 <= seen <= 12  # once per look, however many expect something
        await asyncio.sleep(0.1)
        assert len(looks) <= seen + 1


async def test_who_left_gets_nothing() -> None:
    place = Place(100)
    gone, waits = place.put("gone"), place.put("waits")
    gone.cancel()
    place.handover.deliver()
    assert gone.cancelled()
    assert waits.result() == "waits"


def test_a_result_for_a_loop_that_was_closed_is_dropped() -> None:
    async def made() -> tuple[Place, asyncio.Future[Any]]:
        return Place(0), asyncio.get_running_loop().create_future()

    place, future = asyncio.run(made())
    place.handover.put(future, "late", None)
    assert not future.done()


async def test_many_threads_lose_nothing() -> None:
    """Whatever they find, a call that is under way or none, each result comes."""
    place = Place(0)
    rest = iter(range(10_000))
    place.handover._waiting = lambda: 100 if next(rest, 0) % 3 else 0
    loop = asyncio.get_running_loop()
    futures: list[asyncio.Future[Any]] = [loop.create_future() for _ in range(4000)]

    def some(first: int) -> None:
        for number in range(first, len(futures), 4):
            place.handover.put(futures[number], number, None)

    with place.handover:
        threads = [threading.Thread(target=some, args=(first,)) for first in range(4)]
        for thread in threads:
            thread.start()
        assert await asyncio.wait_for(asyncio.gather(*futures), 20) == list(range(4000))
        for thread in threads:
            thread.join(10)
