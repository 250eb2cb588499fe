"""Receives request bodies within a byte limit, and takes forms apart into pictures."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import Receive

from service.dataplane.body_budget import BodyBudget
from service.engine.deadlines import Deadlines
from service.errors import BodyTooLarge, DeadlineExceeded
from service.telemetry.facts import note
from service.transports.http.interrupt import Interrupt, InterruptedByError
from service.transports.http.multipart import form_boundary, pictures_of

LINGER_SECONDS = 0.8
"""How long the rest of a refused upload is read and discarded, so that a client that reads the
answer only after it has sent everything still gets it."""


class ReceivedBody:
    """An async context manager that receives a whole body and yields its bytes.

    The body may have ``limit`` bytes and must arrive before ``deadline``
    (``time.perf_counter``). Its bytes stay in the budget for as long as the context is open.
    Entering raises BodyTooLarge, by the announced length before anything is read, else by
    counting; Overloaded when the budget is used up; DeadlineExceeded when the client is too slow;
    ClientDisconnect when it has gone.
    """

    def __init__(
        self,
        receive: Receive,
        headers: Headers,
        limit: int,
        budget: BodyBudget,
        deadline: float,
        deadlines: Deadlines,
    ) -> None:
        self._receive = receive
        self._announced = headers.get("content-length", "")
        self._limit = limit
        self._budget = budget
        self._deadline = deadline
        self._deadlines = deadlines
        self._size = 0

    async def __aenter__(self) -> bytes:
        announced, limit = self._announced, self._limit
        if announced.isdigit() and int(announced) > limit:
            raise BodyTooLarge(f"the body has {announced} bytes, the limit is {limit}")
        try:
            with Interrupt() as interrupt:
                expiry = self._deadlines.at(self._deadline, interrupt.trip)
                try:
                    return await self._collect()
                finally:
                    self._deadlines.give_up(expiry)
                    if not announced:
                        note(bytes_in=self._size)
        except BaseException as error:
            self._budget.give(self._size)
            if isinstance(error, InterruptedByError):
                late = "the deadline passed before the body had arrived"
                raise DeadlineExceeded(late) from None
            raise

    async def __aexit__(self, *failure: object) -> None:
        self._budget.give(self._size)

    async def _collect(self) -> bytes:
        pieces: list[bytes] = []
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            piece = message.get("body", b"")
            if self._size + len(piece) > self._limit:
                raise BodyTooLarge(
                    f"the body has more than {self._limit} bytes, which is the limit"
                )
            self._budget.take(len(piece))
            self._size += len(piece)
            pieces.append(piece)
            if not message.get("more_body", False):
                return pieces[0] if len(pieces) == 1 else b"".join(pieces)


async def linger(receive: Receive) -> None:
    """Read and discard what the client still sends, for `LINGER_SECONDS` at most."""
    with suppress(asyncio.TimeoutError):
        await asyncio.wait_for(_discard(receive), LINGER_SECONDS)


async def _discard(receive: Receive) -> None:
    more = True
    while more:
        message = await receive()
        more = message["type"] != "http.disconnect" and message.get("more_body", False)


def pictures(
    body: bytes, content_type: str, limit: int
) -> tuple[Sequence[bytes | memoryview], bool]:
    """Return the encoded pictures of a body, at most ``limit``, and whether it is a form.

    A body that is not multipart/form-data is itself one picture, whatever its content type says
    (``curl --data-binary`` says application/x-www-form-urlencoded). Raises what
    `multipart.form_boundary` and `multipart.pictures_of` raise.
    """
    boundary = form_boundary(content_type)
    if boundary is None:
        return [body], False
    return pictures_of(body, boundary, limit), True
