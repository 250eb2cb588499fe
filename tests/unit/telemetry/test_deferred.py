"""What is counted waits for company, but not for ever, and is never lost."""

from __future__ import annotations

import asyncio
import itertools
import sys
import threading

import pytest
from prometheus_client import Gauge

from service.telemetry.deferred import AT_ONCE, DELAY_S, Gathering


async def flushed(gathering: Gathering) -> None:
    """Wait until the loop has made by itself what waits now."""
    made = asyncio.Event()
    gathering.call(made.set)
    assert not made.is_set()
    await asyncio.wait_for(made.wait(), 100 * DELAY_S)


def test_outside_a_loop_everything_is_written_at_once() -> None:
    gathering, written = Gathering(), []
    gathering.call(written.append, 1)
    gauge = Gauge("gathered_at_once", "-", registry=None)
    gathering.set(gauge, 7)
    assert written == [1]
    assert gauge._value.get() == 7


def test_calls_wait_and_are_made_in_order_by_the_loop() -> None:
    gathering, written = Gathering(), []
    gauge = Gauge("gathered", "-", registry=None)

    async def run() -> None:
        gathering.begin()
        for number in range(3):
            gathering.call(written.append, (number, threading.get_ident()))
            gathering.set(gauge, number)
        assert not written
        assert gauge._value.get() == 0
        await flushed(gathering)
        assert gauge._value.get() == 2
        gathering.call(written.append, "again")
        await flushed(gathering)  # another one

    asyncio.run(run())
    assert written == [*((number, threading.get_ident()) for number in range(3)), "again"]


def test_calls_of_other_threads_are_made_by_the_loop_too() -> None:
    gathering, written = Gathering(), []
    threads, each = 8, 500

    def work() -> None:
        for _ in range(each):
            gathering.call(lambda: written.append(threading.get_ident()))

    async def run() -> None:
        gathering.begin()
        running = [threading.Thread(target=work) for _ in range(threads)]
        for thread in running:
            thread.start()
        for thread in running:
            await asyncio.to_thread(thread.join)
        await flushed(gathering)

    asyncio.run(run())
    assert written == threads * each * [threading.get_ident()]


def test_who_reads_sees_all_and_the_end_leaves_nothing() -> None:
    gathering, written = Gathering(), []

    async def run() -> None:
        gathering.begin()
        gathering.call(written.append, "read")
        await gathering.written(alone=True)
        assert written == ["read"]
        gathering.call(written.append, "last")
        gathering.end()
        assert written == ["read", "last"]
        gathering.call(written.append, "after")
        assert written == ["read", "last", "after"]

    asyncio.run(run())


def test_a_second_loop_has_its_own_flushes() -> None:
    """One was closed without a word: what waited there is made in the next one."""
    gathering, written = Gathering(), []

    async def first() -> None:
        gathering.begin()
        gathering.call(written.append, 1)

    async def second() -> None:
        gathering.begin()
        gathering.call(written.append, 2)
        await flushed(gathering)

    asyncio.run(first())
    assert not written
    asyncio.run(second())
    assert written == [1, 2]


def test_a_write_that_fails_is_logged_and_no_obstacle(caplog: pytest.LogCaptureFixture) -> None:
    gathering, written = Gathering(), []

    async def run() -> None:
        gathering.begin()
        gathering.call(int, "x")
        gathering.call(written.append, 1)
        await flushed(gathering)

    asyncio.run(run())
    assert written == [1]
    assert "invalid literal" in caplog.text


def test_a_long_row_is_made_in_pieces() -> None:
    gathering, written = Gathering(), []

    async def run() -> None:
        gathering.begin()
        for number in range(3 * AT_ONCE):
            gathering.call(written.append, number)
        pieces = []
        while len(written) < 3 * AT_ONCE:
            before = len(written)
            await asyncio.sleep(0)
            pieces.append(len(written) - before)
        assert max(pieces) == AT_ONCE

    asyncio.run(run())
    assert written == list(range(3 * AT_ONCE))


def test_nothing_is_lost_where_threads_go_on_after_the_end() -> None:
    gathering, counted = Gathering(), itertools.count()
    threads, each = 4, 2_000

    def work() -> None:
        for _ in range(each):
            gathering.call(next, counted)

    async def run() -> None:
        gathering.begin()
        running = [threading.Thread(target=work) for _ in range(threads)]
        for thread in running:
            thread.start()
        gathering.end()
        for thread in running:
            await asyncio.to_thread(thread.join)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for _ in range(10):
            asyncio.run(run())
    finally:
        sys.setswitchinterval(interval)
    assert next(counted) == 10 * threads * each


def test_other_workers_have_their_time_to_write() -> None:
    mine, theirs, written = Gathering(), Gathering(), []

    async def run() -> None:
        mine.begin()
        theirs.begin()
        theirs.call(written.append, 1)
        await mine.written(alone=True)
        assert not written
        await mine.written(alone=False)
        assert written == [1]

    asyncio.run(run())
