"""Results that threads hand to the event loop."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from time import perf_counter
from typing import Any

import pytest

from service.dataplane import completions
from service.dataplane.completions import LAST_S, LONG, MOST_HELD, Handover

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
    """A handover, and pictures that wait for threads."""

    def __init__(self, waiting: int) -> None:
        self.handover = Handover(THREADS)
        for picture in range(waiting):
            self.handover.expect(picture)

    def put(
        self, result: object = None, error: BaseException | None = None, seconds: float = 60
    ) -> asyncio.Future[Any]:
        """From a thread, whose end is waited for; nothing else is done meanwhile."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        arguments = (future, result, error, perf_counter() + seconds)
        thread = threading.Thread(target=self.handover.put, args=arguments)
        thread.start()
        thread.join(10)
        return future


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing comes because it was held for long, but where that is tested."""
    monkeypatch.setattr(completions, "HOLD_S", 60.0)


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


async def test_what_a_thread_has_taken_waits_no_more(loop: Loop) -> None:
    place = Place(LONG * THREADS + 1)
    first = place.put("first")
    place.handover.begun(0)
    assert await asyncio.wait_for(place.put("second"), 10) == "second"
    assert first.result() == "first"
    assert loop.calls == 1


async def test_where_others_leave_the_queue_what_is_held_comes(loop: Loop) -> None:
    place = Place(LONG * THREADS + 2)
    held = place.put("held")
    place.handover.forget(0)
    assert not held.done()
    place.handover.forget(1)
    assert held.result() == "held"
    assert loop.calls == 0


async def test_what_is_wanted_soon_is_not_held(loop: Loop) -> None:
    place = Place(100)
    held = place.put("held", seconds=2 * LAST_S)
    assert await asyncio.wait_for(place.put("soon", seconds=LAST_S / 2), 10) == "soon"
    assert held.result() == "held"
    assert loop.calls == 1


async def test_a_loop_that_was_called_is_not_called_again_before_it_came(loop: Loop) -> None:
    place = Place(0)
    futures = [place.put(number) for number in range(20)]
    assert await asyncio.wait_for(asyncio.gather(*futures), 10) == list(range(20))
    assert loop.calls == 1


async def test_what_comes_when_all_was_delivered_calls_the_loop_anew(loop: Loop) -> None:
    """Between the last look at what is held and the end of a delivery."""
    place = Place(0)
    late: list[asyncio.Future[Any]] = []

    class Held(deque[Any]):
        def __len__(self) -> int:
            length = super().__len__()
            if not length and delivering and not late:
                late.append(asyncio.get_running_loop().create_future())
                late[0] = place.put("late")
            return length  # for the delivery there is none

    delivering = False
    place.handover._held = Held()
    first = place.put("first")
    delivering = True
    assert await asyncio.wait_for(first, 10) == "first"
    assert await asyncio.wait_for(late[0], 10) == "late"
    assert loop.calls == 2


async def test_nothing_is_held_for_long(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(completions, "HOLD_S", 0.2)
    place = Place(100)
    for number in range(2):
        await asyncio.sleep(0.13)  # in between two looks
        begun = perf_counter()
        assert await asyncio.wait_for(place.put(number), 10) == number
        assert perf_counter() - begun >= 0.18
    assert loop.calls == 0


async def test_the_loop_looks_only_while_something_is_expected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(completions, "HOLD_S", 0.01)
    looks, look = [], Handover._look
    monkeypatch.setattr(Handover, "_look", lambda own: looks.append(look(own)))
    place = Place(2)
    while len(looks) < 3:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    place.handover.forget(0)
    place.handover.forget(1)
    seen = len(looks)
    await asyncio.sleep(0.1)
    assert len(looks) == seen + 1
    assert not place.handover._looks
    place.handover.expect(2)
    while len(looks) < seen + 2:  # noqa: ASYNC110
        await asyncio.sleep(0.01)


async def test_who_left_gets_nothing_and_others_do(caplog: pytest.LogCaptureFixture) -> None:
    place = Place(100)
    gone, wrong, waits = place.put("gone"), place.put(error=StopIteration()), place.put("waits")
    gone.cancel()
    place.handover.deliver()
    assert gone.cancelled()
    assert not wrong.done()  # a future takes no StopIteration
    assert "cannot be handed over" in caplog.text
    assert waits.result() == "waits"


def test_a_result_for_a_loop_that_was_closed_is_dropped() -> None:
    async def made() -> tuple[Place, asyncio.Future[Any]]:
        return Place(0), asyncio.get_running_loop().create_future()

    place, future = asyncio.run(made())
    place.handover.put(future, "late", None, perf_counter())
    assert not future.done()


async def test_many_threads_lose_nothing() -> None:
    place = Place(0)
    loop = asyncio.get_running_loop()
    futures: list[asyncio.Future[Any]] = [loop.create_future() for _ in range(4000)]

    def some(first: int) -> None:
        for number in range(first, len(futures), 4):
            place.handover.put(futures[number], number, None, perf_counter() + 60)

    threads = [threading.Thread(target=some, args=(first,)) for first in range(4)]
    for thread in threads:
        thread.start()
    assert await asyncio.wait_for(asyncio.gather(*futures), 30) == list(range(4000))
    for thread in threads:
        thread.join(10)
