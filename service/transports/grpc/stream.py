"""Many requests of one stream in work at a time, answered in whatever order they are ready."""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any, Generic, TypeVar

from service.dataplane.body_budget import BodyBudget
from service.dataplane.retry import Patience
from service.errors import Internal, NotReady, Overloaded, RequestTimeout, ZooError, let_go
from service.transports.grpc.arrivals import Requests

logger = logging.getLogger("zoo.grpc")

LOOKS = 8
"""At a stream while it may be idle: so it ends an eighth of that time late at most."""
LEAST_WINDOW = 16
"""Requests of one stream that are in work, or answered and not yet written. More would only wait in
the queue, before the requests of others."""


Request = TypeVar("Request")
Response = TypeVar("Response")


class Streams:
    """The open streams of a server, which end when it stops."""

    def __init__(
        self,
        budget: BodyBudget,
        refused: Callable[[str], None],
        window: int = LEAST_WINDOW,
        idle_s: float = math.inf,
    ) -> None:
        """``budget`` bounds the bytes of all requests in work, ``window`` how many a stream has.

        ``refused`` is told the code of a request that did not fit into the budget. A stream ends
        when for ``idle_s`` seconds it has had no request in work and none came, or when an answer
        was not taken for so long.
        """
        self._budget = budget
        self._refused = refused
        self._window = max(LEAST_WINDOW, window)
        self._idle_s = idle_s
        self._open: set[Stream[Any, Any]] = set()
        self._ending = False

    async def answers(
        self,
        requests: Requests[Request],
        answer: Callable[[Request, Patience], Awaitable[Response]],
        failure: Callable[[Request, ZooError], Response],
    ) -> AsyncIterator[Response]:
        """One more stream, see `Stream`. Raises NotReady when the server stops."""

        def refusal(request: Request, error: ZooError) -> Response:
            self._refused(error.code)
            return failure(request, error)

        stream = Stream(answer, failure, refusal, self._budget, self._window, self._idle_s)
        self._open.add(stream)
        if self._ending:
            stream.end()
        try:
            async for response in stream.answers(requests):
                yield response
        finally:
            self._open.discard(stream)

    def end(self) -> None:
        """Read nothing more, answer what was read, then end."""
        self._ending = True
        for stream in self._open:
            stream.end()


class Stream(Generic[Request, Response]):
    """One stream. At most ``window`` of its requests are read and not yet written back.

    So who does not read answers, or sends faster than the engine computes, is held up by HTTP/2
    flow control. The bytes of a request are in ``budget`` until its answer is ready.
    """

    def __init__(
        self,
        answer: Callable[[Request, Patience], Awaitable[Response]],
        failure: Callable[[Request, ZooError], Response],
        refusal: Callable[[Request, ZooError], Response],
        budget: BodyBudget,
        window: int,
        idle_s: float,
    ) -> None:
        """``answer`` may raise ZooError, which ``failure`` makes a response of.

        ``refusal`` makes one for what is not even begun.
        """
        self._answer = answer
        self._failure = failure
        self._refusal = refusal
        self._budget = budget
        self._room = asyncio.Semaphore(window)
        self._done: asyncio.Queue[Response | None] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()
        self._working = 0
        self._freed = asyncio.Event()
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._reading: asyncio.Task[None] | None = None
        self._ending = False
        self._idle_s = idle_s
        self._overdue = False
        self._since = 0.0
        """When a request came, was done, or its answer was taken last, by the loop's clock."""
        self._writer: asyncio.Task[Any] | None = None
        """The task that writes an answer, while it does."""
        self._writing_since = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def end(self) -> None:
        """Read nothing more: once what was read is answered, `answers` raises NotReady."""
        self._ending = True
        if self._reading is not None:
            self._reading.cancel()

    async def answers(self, requests: Requests[Request]) -> AsyncIterator[Response]:
        """Each answer as soon as it is ready. When the consumer ends, so does all work.

        Raises what reading ``requests`` raised, NotReady after `end`, RequestTimeout where nothing
        was asked for too long. Who leaves an answer unread for so long is cancelled.
        """
        reader = asyncio.create_task(self._read(requests))
        self._moved()
        self._look()
        try:
            while (response := await self._done.get()) is not None:
                self._writer = asyncio.current_task()
                self._writing_since = asyncio.get_running_loop().time()
                yield response
                self._writer = None
                self._moved()
                self._room.release()
            await reader
            if self._ending:
                raise NotReady("the service is stopping")
            if self._overdue:
                raise RequestTimeout(f"nothing was asked for {self._idle_s:g} s")
        finally:
            if self._timer is not None:
                self._timer.cancel()
            for task in (reader, *self._tasks):
                task.cancel()
            # a task keeps what ended it, whose frames would keep this stream with the task
            self._reading = self._writer = None
            del reader, task

    def _moved(self) -> None:
        self._since = asyncio.get_running_loop().time()

    def _look(self) -> None:
        """End the stream where it is idle, or look again when it may be."""
        if self._idle_s == math.inf:
            return
        loop = asyncio.get_running_loop()
        since = self._writing_since if self._writer is not None else self._since
        busy = self._writer is None and bool(self._tasks)
        if busy or loop.time() - since < self._idle_s:
            self._timer = loop.call_later(self._idle_s / LOOKS, self._look)
            return
        self._overdue = True
        if self._reading is not None:
            self._reading.cancel()
        if self._writer is not None:
            self._writer.cancel()

    async def _read(self, requests: Requests[Request]) -> None:
        reading = self._reading = asyncio.create_task(self._start(requests))
        if self._ending:
            reading.cancel()
        try:
            try:
                await reading
            except asyncio.CancelledError:
                if not self._ending and not self._overdue:
                    raise
            if self._tasks:
                await asyncio.wait(self._tasks)
        finally:
            self._done.put_nowait(None)

    async def _start(self, requests: Requests[Request]) -> None:
        """Begin the work on each request as it comes and fits into the budget."""
        while True:
            await self._room.acquire()
            try:
                request = await anext(requests)
            except StopAsyncIteration:
                return
            self._moved()
            size = requests.size
            try:
                await self._hold(size)
            except Overloaded as error:
                self._done.put_nowait(self._refusal(request, error))
                continue
            task = asyncio.create_task(self._work(request))
            self._tasks.add(task)
            task.add_done_callback(partial(self._finished, size))
            del request, task

    async def _hold(self, size: int) -> None:
        """Count a request in the budget. While others of the stream are in it, wait for room."""
        while True:
            try:
                self._budget.take(size)
                return
            except Overloaded:
                if not self._tasks:
                    raise
            self._freed.clear()
            await self._freed.wait()

    def _finished(self, size: int, task: asyncio.Task[None]) -> None:
        """A request is answered, or was given up: there is room for another, and for a retry."""
        self._tasks.discard(task)
        self._moved()
        self._budget.give(size)
        self._freed.set()
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    async def _work(self, request: Request) -> None:
        try:
            response = await self._answered(request)
        except ZooError as error:
            let_go(error)
            response = self._failure(request, error)
        except Exception as error:
            logger.exception("a request of a stream could not be answered")
            let_go(error)
            response = self._failure(request, Internal("the request could not be answered"))
        self._done.put_nowait(response)

    async def _answered(self, request: Request) -> Response:
        self._working += 1
        try:
            return await self._answer(request, self._another_ended)
        finally:
            self._working -= 1

    async def _another_ended(self) -> bool:
        """The patience of a request that there was no room for, while others are in work.

        The stream itself may be what fills the queue; its client is slowed down, not refused. Each
        request that ends wakes one that was refused.
        """
        if self._working == 1:
            return False
        self._working -= 1
        try:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(waiter)
            await waiter
        finally:
            self._working += 1
        return True
