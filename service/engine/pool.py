"""The threads of a worker, which decode pictures and run networks in turn.

More threads than cores would take the cores, and the content of the caches, from each other. So the
same threads do both kinds of work. Each kind has a queue of its own, and while both hold work the
threads take from them in turn. So crops do not pile up before the network under many requests of
one picture, and a request of 144 crops does not keep the pictures of others from being decoded.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Literal, TypeVar

logger = logging.getLogger("zoo.pool")

T = TypeVar("T")
Kind = Literal["prepare", "run"]

_OTHER: dict[Kind, Kind] = {"prepare": "run", "run": "prepare"}


class _Task:
    __slots__ = ("future", "loop", "work")

    def __init__(self, work: Callable[[], Any], loop: asyncio.AbstractEventLoop) -> None:
        self.work: Callable[[], Any] | None = work
        self.loop = loop
        self.future: asyncio.Future[Any] = loop.create_future()
        self.future.add_done_callback(self._drop)

    def __call__(self) -> None:
        """Do the work in this thread, and settle the future in the thread of its event loop."""
        work = self.work
        if work is None or self.future.done():  # the loop may not have called `_drop` yet
            return
        result, error = None, None
        try:
            result = work()
        except BaseException as raised:  # noqa: BLE001  who awaits the future gets it
            error = raised
        with suppress(RuntimeError):  # the loop was closed: nobody waits any more
            self.loop.call_soon_threadsafe(settle, self.future, result, error)
        del work, result, error  # or an error's frames would keep it and the picture alive

    def _drop(self, _: asyncio.Future[Any]) -> None:
        """Free the picture, as nobody waits any more, though the task may still be queued."""
        self.work = None


def settle(future: asyncio.Future[Any], result: object, error: BaseException | None) -> None:
    """Give a future its result or its exception, unless it has one or was cancelled."""
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)


def failure(future: asyncio.Future[Any]) -> BaseException | None:
    """Return the error that a future ended with; None where it has a result, or is not done."""
    if future.cancelled():
        return asyncio.CancelledError()
    return future.exception() if future.done() else None


class Pool:
    """A fixed number of threads with two kinds of work."""

    def __init__(self, threads: int, name: str) -> None:
        self.threads = threads
        self._queues: dict[Kind, deque[Callable[[], object]]] = {"prepare": deque(), "run": deque()}
        self._turn: Kind = "run"
        self._changed = threading.Condition(threading.Lock())
        self._idle = 0
        self._closed = False
        self._threads = [
            threading.Thread(target=self._loop, name=f"{name}-{number}", daemon=True)
            for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def post(self, kind: Kind, work: Callable[[], object], *, own: bool = False) -> None:
        """Queue ``work``, which must not raise. Raises RuntimeError when the pool is closed.

        ``own`` says that the caller is a thread of this pool which takes its next work right after
        this. No other thread is woken for what it will do itself: it goes on faster with what is
        still in its cache. Such a thread may post even when the pool is closed.
        """
        with self._changed:
            if self._closed and not own:
                raise RuntimeError("the pool is closed")
            queues = self._queues
            queues[kind].append(work)
            if self._idle and (not own or len(queues["run"]) + len(queues["prepare"]) > 1):
                self._changed.notify()

    def submit(self, kind: Kind, work: Callable[[], T]) -> asyncio.Future[T]:
        """Queue ``work``; the future, of the running loop, gets its result or exception.

        Work that has not begun when the future is cancelled, or settled by others, is never done.
        Raises RuntimeError when the pool is closed.
        """
        task = _Task(work, asyncio.get_running_loop())
        self.post(kind, task)
        return task.future

    def close(self) -> None:
        """Drop queued work of the kind ``prepare``; the threads do that of ``run``, then end."""
        with self._changed:
            self._closed = True
            self._queues["prepare"].clear()
            self._changed.notify_all()

    def _loop(self) -> None:
        while True:
            with self._changed:
                while (work := self._next()) is None:
                    if self._closed:
                        return
                    self._idle += 1
                    self._changed.wait()
                    self._idle -= 1
            try:
                work()
            except BaseException:
                logger.exception("work in the pool raised")
            del work  # or its picture would stay in memory until the next work comes

    def _next(self) -> Callable[[], object] | None:
        """Take the next work, of the kind whose turn it is, else of the other; None without any."""
        for kind in (self._turn, _OTHER[self._turn]):
            if self._queues[kind]:
                self._turn = _OTHER[kind]
                return self._queues[kind].popleft()
        return None
