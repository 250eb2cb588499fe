"""The pool: lanes take turns, results reach their futures, cancelled work never begins."""

from __future__ import annotations

import asyncio
import threading
import weakref
from functools import partial

import pytest

from service.engine.pool import Pool


async def test_results_and_exceptions_come_back() -> None:
    pool = Pool(2, "test")
    done = [pool.submit("run", partial(pow, number, 2)) for number in range(50)]
    assert await asyncio.gather(*done) == [number**2 for number in range(50)]

    def fail() -> None:
        raise KeyError("gone")

    with pytest.raises(KeyError, match="gone"):
        await pool.submit("prepare", fail)
    assert await pool.submit("run", threading.get_ident) != threading.get_ident()
    pool.close()


async def test_lanes_take_turns_while_both_wait() -> None:
    pool = Pool(1, "test")
    gate = threading.Event()
    order: list[str] = []
    first = pool.submit("run", gate.wait)
    done = [pool.submit("run", lambda: order.append("run")) for _ in range(6)]
    done += [pool.submit("prepare", lambda: order.append("prepare")) for _ in range(3)]
    gate.set()
    await asyncio.gather(first, *done)
    assert order == ["prepare", "run"] * 3 + ["run"] * 3
    pool.close()


async def test_cancelled_work_never_begins() -> None:
    pool = Pool(1, "test")
    gate, begun = threading.Event(), threading.Event()
    first = pool.submit("run", gate.wait)
    second = pool.submit("run", begun.set)
    second.cancel()
    gate.set()
    await first
    assert await pool.submit("run", lambda: 1) == 1
    assert not begun.is_set()
    pool.close()


async def test_what_was_cancelled_lets_go_of_its_picture_at_once() -> None:
    class Picture:
        def work(self) -> None:
            pass

    pool = Pool(1, "test")
    gate = threading.Event()
    first = pool.submit("run", gate.wait)
    picture = Picture()
    gone = weakref.ref(picture)
    second = pool.submit("prepare", picture.work)
    second.cancel()
    del picture
    await asyncio.sleep(0)
    assert gone() is None
    gate.set()
    await first
    pool.close()


async def test_close_finishes_runs_and_leaves_the_rest() -> None:
    pool = Pool(1, "test")
    gate = threading.Event()
    first = pool.submit("run", gate.wait)
    last = pool.submit("run", lambda: "ran")
    left = pool.submit("prepare", lambda: "prepared")
    pool.close()
    with pytest.raises(RuntimeError, match="closed"):
        pool.submit("run", lambda: None)
    gate.set()
    await first
    assert await last == "ran"
    assert not left.done()


async def test_threads_end_with_the_pool() -> None:
    before = threading.active_count()
    pool = Pool(3, "test")
    assert threading.active_count() == before + 3
    pool.close()
    for _ in range(200):
        if threading.active_count() == before:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("a thread of the pool lives on")
