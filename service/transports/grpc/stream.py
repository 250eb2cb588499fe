"""Works on many requests of a stream at a time and answers each as soon as it is ready."""

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
"""How often a stream is looked at within its idle time: it ends late by an eighth at most."""
LEAST_WINDOW = 16
"""How many requests of one stream may at least be in work, or answered and not yet written. With
more, one stream would fill the queue ahead of the requests of others."""


Request = TypeVar("Request")
Response = TypeVar("Response")


class Streams:
    """The open streams of a server."""

    def __init__(
        self,
        budget: BodyBudget,
        refused: Callable[[str], None],
        window: int = LEAST_WINDOW,
        idle_s: float = math.inf,
    ) -> None:
        """``budget`` bounds the bytes of all requests in work, ``window`` their number per stream.

        ``refused`` is called with the error code of a request that does not fit into the budget. A
        stream ends when for ``idle_s`` seconds it has had no request in work and none has come, or
        when the client has not read an answer for so long.
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
        """Open a stream and yield its answers, as `Stream.answers` does."""

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
        """End all streams: they read nothing more and answer what they have read."""
        self._ending = True
        for stream in self._open:
            stream.end()


class Stream(Generic[Request, Response]):
    """One stream. At most ``window`` of its requests are read whose answers are not yet written.

    So HTTP/2 flow control slows down a client that does not read answers or that sends faster than
    the engine computes. The bytes of a request are in ``budget`` until its answer is ready.
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
        """``answer`` makes the response to a request, ``failure`` that to a ZooError it raises.

        ``refusal`` makes the response to a request that did not fit into the budget.
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
        """When a request last came or was done, or an answer was written, by the loop's clock."""
        self._writer: asyncio.Task[Any] | None = None
        """The task that is writing an answer now."""
        self._writing_since = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def end(self) -> None:
        """Read nothing more: once what was read is answered, `answers` raises NotReady."""
        self._ending = True
        if self._reading is not None:
            self._reading.cancel()

    async def answers(self, requests: Requests[Request]) -> AsyncIterator[Response]:
        """Yield each answer as soon as it is ready. When the consumer ends, all work is cancelled.

        Raises what reading ``requests`` raised, NotReady after `end`, and RequestTimeout where no
        request came for too long. Where the client does not read an answer for as long, the
        consumer is cancelled.
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
            # a task keeps the exception that ended it, and the exception's frames this stream
            self._reading = self._writer = None
            del reader, task

    def _moved(self) -> None:
        self._since = asyncio.get_running_loop().time()

    def _look(self) -> None:
        """End the stream where it has been idle for too long, else look again later."""
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
        """Begin to work on each request as it comes, once it fits into the budget."""
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
        """Take a request's bytes from the budget, or wait for other requests of the stream to end.

        Raises Overloaded where there are none.
        """
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
        """After a request was answered or given up, give back its bytes and wake one that waits."""
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
        """Wait until another request of the stream ends; False where none is in work.

        It is the `Patience` of a request that the engine had no room for: the stream itself may
        fill the queue, and its client is then slowed down and not refused. Each request that ends
        wakes one that waits.
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
