"""Messages on their way in: how large they may be, how long they may take.

How much has come of a message is known to grpc alone until it is whole, so its bytes cannot be
counted. One that is slow stands for a message of the greatest size instead.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from time import perf_counter
from typing import TypeVar, cast

import grpc.aio

from service.engine.deadlines import Deadlines
from service.errors import (
    BadParameter,
    BodyTooLarge,
    DeadlineExceeded,
    Overloaded,
    RequestTimeout,
    ZooError,
)
from service.transports.grpc.calls import Context

SLOW = 1 / 6
"""The part of its time after which a message is slow: 5 s by default."""
END_SECONDS = 0.1
"""A call that ends without a message was cancelled, most often; within this we hear of it."""

Request = TypeVar("Request")
Result = TypeVar("Result")


class Arrivals:
    """Reads the messages of unary calls. Lives in one event loop."""

    def __init__(self, seconds: float, most_slow: int, deadlines: Deadlines) -> None:
        """A message has ``seconds`` to arrive.

        At most ``most_slow`` of them may be slow at a time.
        """
        self._seconds = seconds
        self._most_slow = most_slow
        self._deadlines = deadlines
        self._slow: set[_Wait] = set()

    async def read(self, context: Context, limit: int) -> bytes:
        """The one message of a call, of at most ``limit`` bytes.

        Raises DeadlineExceeded when it takes too long, Overloaded when too many others are slow as
        well, BodyTooLarge, and BadParameter where there is none.
        """
        wait = _Wait()
        self._until(SLOW * self._seconds, wait, self._late)
        try:
            message = await context.read()
        except asyncio.CancelledError:
            if wait.refusal is None:
                raise
            raise wait.refusal from None
        finally:
            self._deadlines.give_up(wait.deadlines)
            self._slow.discard(wait)
        if message is grpc.aio.EOF:
            await asyncio.sleep(END_SECONDS)
            raise BadParameter("the call has no message")
        return checked(cast(bytes, message), limit)

    def _until(self, seconds: float, wait: _Wait, then: Callable[[_Wait], None]) -> None:
        wait.deadlines = self._deadlines.at(perf_counter() + seconds, partial(then, wait))

    def _late(self, wait: _Wait) -> None:
        if len(self._slow) < self._most_slow:
            self._slow.add(wait)
            self._until((1 - SLOW) * self._seconds, wait, self._too_late)
        else:
            why = f"{self._most_slow} messages are arriving slowly, which is the limit"
            wait.end(Overloaded(why, retry_after=1))

    def _too_late(self, wait: _Wait) -> None:
        wait.end(DeadlineExceeded(f"the message did not arrive within {self._seconds:g} s"))


class _Wait:
    """The task that reads a message, until it has one or is told why not."""

    __slots__ = ("deadlines", "refusal", "task")

    def __init__(self) -> None:
        self.task = cast("asyncio.Task[object]", asyncio.current_task())
        self.refusal: ZooError | None = None
        self.deadlines: int

    def end(self, refusal: ZooError) -> None:
        self.refusal = refusal
        self.task.cancel()


class Requests(AsyncIterator[Request]):
    """The messages of a stream; there is no saying whether the next is late or not yet begun."""

    def __init__(
        self,
        context: Context,
        understood: Callable[[bytes], Request],
        idle_s: float | None = None,
    ) -> None:
        """A message that is not ``understood`` is the end; the function raises why.

        RequestTimeout is raised when none has come for ``idle_s``; `stream` knows better, where
        there is work.
        """
        self._context = context
        self._understood = understood
        self._idle_s = idle_s
        self.size = 0
        """The bytes of the last message."""

    async def __anext__(self) -> Request:
        message = await in_time(self._context.read(), self._idle_s, "nothing was asked")
        if message is grpc.aio.EOF:
            raise StopAsyncIteration
        self.size = len(cast(bytes, message))
        return self._understood(cast(bytes, message))


async def in_time(work: Awaitable[Result], seconds: float | None, what: str) -> Result:
    """The result of ``work``. Raises RequestTimeout when it takes longer than ``seconds``."""
    if seconds is None:
        return await work
    try:
        return await asyncio.wait_for(work, seconds)
    except TimeoutError:
        raise RequestTimeout(f"{what} for {seconds:g} s") from None


def checked(message: bytes, limit: int) -> bytes:
    """The message. Raises BodyTooLarge."""
    if len(message) > limit:
        raise BodyTooLarge(f"the message has {len(message)} bytes, the limit is {limit}")
    return message
