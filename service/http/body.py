"""Request bodies: read with a byte limit, and taken apart when they are forms."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import Receive

from service.alarm import Alarm
from service.bodies import BodyBudget
from service.errors import BadParameter, BodyTooLarge, DeadlineExceeded
from service.facts import note
from service.http.interrupt import Interrupt, InterruptedByError

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

PART_NAME = "image"

LINGER_SECONDS = 0.8
"""How long an upload that is too large is read and thrown away, so that a client which reads the
answer only after sending everything still gets it."""


class ReceivedBody:
    """``async with`` this: the whole body, at most ``limit`` bytes, before ``deadline``.

    ``deadline`` is in seconds of ``time.perf_counter``. Its bytes stay in the budget for as long
    as the context is open. Entering raises BodyTooLarge by the announced length before anything is
    read, else by counting; Overloaded when the budget is used up; DeadlineExceeded when the client
    is too slow; ClientDisconnect when it has gone.
    """

    def __init__(
        self,
        receive: Receive,
        headers: Headers,
        limit: int,
        budget: BodyBudget,
        deadline: float,
        alarm: Alarm,
    ) -> None:
        self._receive = receive
        self._announced = headers.get("content-length", "")
        self._limit = limit
        self._budget = budget
        self._deadline = deadline
        self._alarm = alarm
        self._size = 0

    async def __aenter__(self) -> bytes:
        announced, limit = self._announced, self._limit
        if announced.isdigit() and int(announced) > limit:
            raise BodyTooLarge(f"the body has {announced} bytes, the limit is {limit}")
        try:
            with Interrupt() as interrupt:
                expiry = self._alarm.at(self._deadline, interrupt.trip)
                try:
                    return await self._collect()
                finally:
                    self._alarm.give_up(expiry)
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
    """Throw away what is still being sent, for `LINGER_SECONDS` at most."""
    with suppress(asyncio.TimeoutError):
        await asyncio.wait_for(_discard(receive), LINGER_SECONDS)


async def _discard(receive: Receive) -> None:
    more = True
    while more:
        message = await receive()
        more = message["type"] != "http.disconnect" and message.get("more_body", False)


def pictures(body: bytes, content_type: str, limit: int) -> tuple[list[bytes | memoryview], bool]:
    """The encoded pictures of a body, and whether it is a form.

    A body that is not multipart/form-data is itself one picture, whatever its content type says
    (``curl --data-binary`` calls it application/x-www-form-urlencoded). A form yields its parts
    named `image`, in order. Raises BadParameter for a broken form, one without such a part, or
    one with other parts, which would be parameters in the wrong place; BodyTooLarge when it has
    more than ``limit`` parts.
    """
    kind, options = parse_options_header(content_type)
    if kind.lower() != b"multipart/form-data":
        return [body], False
    boundary = options.get(b"boundary", b"")
    if not 1 <= len(boundary) <= 200:
        raise BadParameter("the multipart body's content type has no usable boundary")
    form = _Form(limit)
    parser = MultipartParser(boundary, form.callbacks())
    try:
        parser.write(body)
        parser.finalize()
    except MultipartParseError as error:
        raise BadParameter(f"the multipart body is broken: {error}") from error
    if not form.ended:
        raise BadParameter("the multipart body is truncated: its closing boundary is missing")
    if not form.parts:
        raise BadParameter(f"the form has no part named {PART_NAME!r}")
    return form.parts, True


class _Form:
    """Collects the parts of one form; a part in one piece is a view of the body, not a copy."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.parts: list[bytes | memoryview] = []
        self.ended = False

    def callbacks(self) -> MultipartCallbacks:
        """What python-multipart calls while it parses."""
        return {
            "on_part_begin": self._begin,
            "on_header_begin": self._header_begin,
            "on_header_field": self._header_field,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_finished,
            "on_part_data": self._data,
            "on_part_end": self._part_end,
            "on_end": self._end,
        }

    def _begin(self) -> None:
        if len(self.parts) == self._limit:
            raise BodyTooLarge(
                f"the request holds more than {self._limit} pictures, which is the limit"
            )
        self._headers: dict[bytes, bytes] = {}
        self._pieces: list[memoryview] = []

    def _header_begin(self) -> None:
        self._field = self._value = b""

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        self._headers[self._field.lower()] = self._value

    def _headers_finished(self) -> None:
        disposition = self._headers.get(b"content-disposition", b"")
        kind, options = parse_options_header(disposition)
        name = options.get(b"name")
        if kind.lower() != b"form-data" or name is None:
            raise BadParameter("a form part has no Content-Disposition: form-data with a name")
        if name != PART_NAME.encode():
            shown = name[:64].decode("utf-8", "replace")
            raise BadParameter(
                f"the form has a part named {shown!r}: pictures are parts named {PART_NAME!r}, "
                "parameters belong into the query string"
            )

    def _data(self, data: bytes, start: int, end: int) -> None:
        self._pieces.append(memoryview(data)[start:end])

    def _part_end(self) -> None:
        pieces = self._pieces
        self.parts.append(pieces[0] if len(pieces) == 1 else b"".join(pieces))

    def _end(self) -> None:
        self.ended = True
