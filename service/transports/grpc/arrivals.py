"""Reads the messages of calls within limits of size and time.

Until a message is complete, only grpc knows how much of it has arrived, so its bytes cannot be
counted. Instead, only so many messages may be slow at a time as would fit into the budget of bodies
if each had the greatest size.
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
"""A message is slow after this share of the time that it has to arrive: 5 s by default."""
END_SECONDS = 0.1
"""A call that ends without a message was most often cancelled; grpc reports that within this."""

Request = TypeVar("Request")
Result = TypeVar("Result")


class Arrivals:
    """Reads the messages of unary calls. Lives in one event loop."""

    def __init__(self, seconds: float, most_slow: int, deadlines: Deadlines) -> None:
        """Give each message ``seconds`` to arrive; at most ``most_slow`` may be slow at a time."""
        self._seconds = seconds
        self._most_slow = most_slow
        self._deadlines = deadlines
        self._slow: set[_Wait] = set()

    async def read(self, context: Context, limit: int) -> bytes:
        """Read the one message of a call, of at most ``limit`` bytes.

        Raises DeadlineExceeded when it takes too long, Overloaded when it is slow and too many
        others are, BodyTooLarge, and BadParameter where the call has no message.
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
    """A task that waits for a message. `end` cancels it with the error to raise."""

    __slots__ = ("deadlines", "refusal", "task")

    def __init__(self) -> None:
        self.task = cast("asyncio.Task[object]", asyncio.current_task())
        self.refusal: ZooError | None = None
        self.deadlines: int

    def end(self, refusal: ZooError) -> None:
        self.refusal = refusal
        self.task.cancel()


class Requests(AsyncIterator[Request]):
    """The requests of a stream, one per message.

    grpc does not tell whether the next message is late or has not begun.
    """

    def __init__(
        self,
        context: Context,
        parse: Callable[[bytes], Request],
        idle_s: float | None = None,
    ) -> None:
        """``parse`` makes a request of a message; what it raises ends the stream.

        RequestTimeout is raised when no message has come for ``idle_s`` seconds; None: never.
        Streams with work in progress leave that to `stream.Stream`.
        """
        self._context = context
        self._parse = parse
        self._idle_s = idle_s
        self.size = 0
        """How many bytes the last message had."""

    async def __anext__(self) -> Request:
        message = await in_time(self._context.read(), self._idle_s, "nothing was asked")
        if message is grpc.aio.EOF:
            raise StopAsyncIteration
        self.size = len(cast(bytes, message))
        return self._parse(cast(bytes, message))


async def in_time(work: Awaitable[Result], seconds: float | None, what: str) -> Result:
    """Return the result of ``work``. Raises RequestTimeout when it takes more than ``seconds``.

    ``what`` begins the text of the error. None: it may take any time.
    """
    if seconds is None:
        return await work
    try:
        return await asyncio.wait_for(work, seconds)
    except TimeoutError:
        raise RequestTimeout(f"{what} for {seconds:g} s") from None


def checked(message: bytes, limit: int) -> bytes:
    """Return the message. Raises BodyTooLarge when it has more than ``limit`` bytes."""
    if len(message) > limit:
        raise BodyTooLarge(f"the message has {len(message)} bytes, the limit is {limit}")
    return message
