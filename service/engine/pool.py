"""The threads of a worker, which decode pictures and run networks in turn.

More threads than cores take the cores, and what is in the caches, from each other. So the same
threads do both kinds of work, each kind in a queue of its own: while both wait, they take turns.
So crops do not pile up before the network under many requests of one picture, and the runs of one
request of 144 crops do not keep the pictures of others from being decoded.
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
        """Do the work in this thread, and settle the future in its own."""
        work = self.work
        if work is None or self.future.done():  # `_drop` may have yet to be called
            return
        result, error = None, None
        try:
            result = work()
        except BaseException as raised:  # noqa: BLE001  it is raised where the future is awaited
            error = raised
        with suppress(RuntimeError):  # the loop was closed: nobody waits any more
            self.loop.call_soon_threadsafe(settle, self.future, result, error)
        del work, result, error  # an error's frames would hold it, and what was worked on

    def _drop(self, _: asyncio.Future[Any]) -> None:
        """Nobody waits any more: let go of the picture, though the task may stand in its queue."""
        self.work = None


def settle(future: asyncio.Future[Any], result: object, error: BaseException | None) -> None:
    """Give a future its result or its exception, unless its owner did not wait."""
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)


def failure(future: asyncio.Future[Any]) -> BaseException | None:
    """What a future ended with instead of a result; None where it has one, or goes on."""
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
        """Have ``work`` done; it must not raise. Raises RuntimeError when the pool is closed.

        ``own``: the caller is a thread of this pool which looks for work right after this, so
        that nobody is woken for what it will do itself; to go on with what has just been in its
        cache is faster than to hand it on. It may post though the pool is closed.
        """
        with self._changed:
            if self._closed and not own:
                raise RuntimeError("the pool is closed")
            queues = self._queues
            queues[kind].append(work)
            if self._idle and (not own or len(queues["run"]) + len(queues["prepare"]) > 1):
                self._changed.notify()

    def submit(self, kind: Kind, work: Callable[[], T]) -> asyncio.Future[T]:
        """Have ``work`` done; its result or exception is the future's, in the running loop.

        What has not begun when the future is cancelled, or settled by its owner, never does.
        """
        task = _Task(work, asyncio.get_running_loop())
        self.post(kind, task)
        return task.future

    def close(self) -> None:
        """End the threads once nothing waits of the kind ``run``; what waits to prepare is left."""
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
            del work  # or its pictures live until the next one

    def _next(self) -> Callable[[], object] | None:
        """The next work: of the kind whose turn it is, else of the other."""
        for kind in (self._turn, _OTHER[self._turn]):
            if self._queues[kind]:
                self._turn = _OTHER[kind]
                return self._queues[kind].popleft()
        return None
