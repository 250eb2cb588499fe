"""Deadlines share a timer."""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections.abc import Callable
from functools import partial
from time import perf_counter
from typing import Any

import pytest
import uvloop

from service.engine import deadlines as module
from service.engine.deadlines import Deadlines


async def _until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    end = perf_counter() + seconds
    while not condition() and perf_counter() < end:  # noqa: ASYNC110  nothing tells of it
        await asyncio.sleep(0.005)
    assert condition()


async def test_each_rings_once_and_never_early_in_whatever_order_they_were_set() -> None:
    deadlines, rung = Deadlines(), []
    start = perf_counter()
    moments = [start + 0.002 * number for number in range(100)]
    shuffled = random.Random(0).sample(moments, len(moments))
    for moment in shuffled:
        deadlines.at(moment, lambda m=moment: rung.append((m, perf_counter())))  # type: ignore[misc]
    await _until(lambda: len(rung) == len(moments))
    await asyncio.sleep(0.05)
    assert [moment for moment, _ in sorted(rung)] == moments
    assert all(moment <= now for moment, now in rung)


async def test_a_moment_that_has_passed_rings_at_once_but_not_within_the_call() -> None:
    deadlines, rung = Deadlines(), asyncio.Event()
    deadlines.at(perf_counter() - 1, rung.set)
    assert not rung.is_set()
    await asyncio.wait_for(rung.wait(), 5)


async def test_what_was_given_up_does_not_ring() -> None:
    deadlines, rung = Deadlines(), []
    now = perf_counter()
    numbers = [deadlines.at(now + 0.03, partial(rung.append, number)) for number in range(4)]
    deadlines.give_up(numbers[0])
    deadlines.at(now + 0.02, partial(rung.append, "first"))
    deadlines.at(
        now + 0.01, partial(deadlines.give_up, numbers[1])
    )  # it comes before, however late
    await _until(lambda: len(rung) == 3)
    await asyncio.sleep(0.05)
    assert rung == ["first", 2, 3]
    deadlines.give_up(numbers[2])


async def test_one_of_those_due_gives_up_the_next() -> None:
    deadlines, rung, numbers = Deadlines(), [], {}
    moment = perf_counter() + 0.02
    deadlines.at(moment, lambda: deadlines.give_up(numbers["second"]))
    numbers["second"] = deadlines.at(moment, partial(rung.append, "second"))
    deadlines.at(moment, partial(rung.append, "third"))
    await _until(lambda: bool(rung))
    assert rung == ["third"]


async def test_one_that_sets_another_while_it_rings() -> None:
    deadlines, rung = Deadlines(), []

    def again() -> None:
        rung.append(perf_counter())
        if len(rung) < 5:
            deadlines.at(perf_counter() + 0.01, again)

    deadlines.at(perf_counter(), again)
    deadlines.at(perf_counter() + 60, again)
    await _until(lambda: len(rung) == 5)


async def test_one_that_fails_is_logged_and_the_others_ring(
    caplog: pytest.LogCaptureFixture,
) -> None:
    deadlines, rung = Deadlines(), []
    now = perf_counter()
    deadlines.at(now + 0.01, lambda: 1 / 0)
    deadlines.at(now + 0.01, partial(rung.append, "second"))
    deadlines.at(now + 0.02, partial(rung.append, "third"))
    with caplog.at_level(logging.ERROR):
        await _until(lambda: rung == ["second", "third"])
    assert "ZeroDivisionError" in caplog.text


async def test_infinity_takes_no_timer_and_many_take_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    deadlines, loop = Deadlines(), asyncio.get_running_loop()
    timers, call_later = [], loop.call_later

    def counted(*given: Any) -> asyncio.TimerHandle:
        timers.append(given)
        return call_later(*given)

    monkeypatch.setattr(loop, "call_later", counted)
    deadlines.at(math.inf, lambda: None)
    assert not timers
    for _ in range(1000):
        deadlines.give_up(deadlines.at(perf_counter() + 30, lambda: None))
    assert len(timers) == 1


async def test_what_was_given_up_is_not_kept() -> None:
    deadlines = Deadlines()
    kept = deadlines.at(perf_counter() + 60, lambda: None)
    for _ in range(10_000):
        deadlines.give_up(deadlines.at(perf_counter() + 30, lambda: None))
    assert len(deadlines._moments) <= module._FEW + 3
    assert list(deadlines._calls) == [kept]
    deadlines.give_up(kept)


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_the_timer_does_not_ring_in_vain(
    run: Callable[[Any], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """uvloop rounds to milliseconds: a timer that is early would ring until the moment comes."""
    rings, ring = [], Deadlines._ring

    def counted(self: Deadlines) -> None:
        rings.append(1)
        ring(self)

    monkeypatch.setattr(Deadlines, "_ring", counted)

    async def deadlines() -> None:
        deadlines, rung = Deadlines(), []
        for number in range(50):
            moment = perf_counter() + 0.0034
            deadlines.at(moment, partial(rung.append, moment))
            await _until(lambda n=number: len(rung) == n + 1)  # type: ignore[misc]
            assert perf_counter() >= moment

    run(deadlines())
    assert len(rings) <= 55
