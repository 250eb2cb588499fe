"""HTTP/1.1 by llhttp, with limits: a parser in C takes a fraction of what one in Python does.

uvicorn's own protocol over httptools takes a head of any length, and answers what it cannot parse
in plain text. Here heads and whatever frames a chunked body are bounded as they arrive, and
everything refused is a problem document. `service.app` names this class to uvicorn.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Sized
from functools import partial
from typing import Any, ClassVar, cast

import httptools
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from service.errors import BadParameter
from service.http.problems import MEDIA_TYPE, problem
from service.ids import request_id_of

logger = logging.getLogger("zoo.http")

_CONTINUE = b"HTTP/1.1 100 "

MAX_HEAD_BYTES = 64 * 1024
"""Of a request's target and headers together, and of the trailers behind a chunked body."""
MAX_HEADERS = 256
MAX_WAITING = 16
"""Requests behind the one that is being answered, beyond which a connection is not read; one read
may bring more. While it is not read, nobody sees that the client has left."""
MAX_FRAME = 16
"""Bytes beside each byte of a chunked body: a chunk of one byte takes five."""


class _RefusedError(Exception):
    """Raised while parsing: what is in the message is refused."""


class _Joined:
    """The transport of one answer: its head waits for the first of its body, to go in one write."""

    __slots__ = ("_head", "_transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head: bytes | None = None

    def write(self, data: bytes) -> None:
        if self._head is None and not data.startswith(_CONTINUE):
            self._head = data  # never empty, and a body follows or the transport is closed
        elif self._head:
            self._transport.write(self._head + data)
            self._head = b""
        else:
            self._transport.write(data)

    def flush(self) -> None:
        """An answer to HEAD has no body."""
        if self._head:
            self.write(b"")

    def close(self) -> None:
        self.flush()
        self._transport.close()

    def is_closing(self) -> bool:
        return self._transport.is_closing()


class _Flow(FlowControl):
    """Reads nothing while many requests wait behind the one that is being answered."""

    def __init__(self, transport: asyncio.Transport, waiting: Sized) -> None:
        super().__init__(transport)
        self._waiting = waiting

    def resume_reading(self) -> None:
        if len(self._waiting) <= MAX_WAITING:
            super().resume_reading()


class BoundedProtocol(HttpToolsProtocol):
    """One connection. Answers 400 and hangs up when a head, or a body's frame, is too large."""

    leaving: ClassVar[bool] = False
    """Whether every connection of this worker is to end with the next answer."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.access_log = False  # ours has a line for each request
        self._in_head = True
        self._began = False
        """Whether the present message began in what was received last."""
        self._frame = 0
        """Bytes of the present message, from the next read on, that are not content."""
        self._content = 0
        self._answering: RequestResponseCycle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(cast(asyncio.Transport, transport))
        self.flow = _Flow(self.transport, self.pipeline)

    def connection_lost(self, exc: Exception | None) -> None:
        """The request that is being answered hears of it, not only the newest."""
        self.pipeline.clear()
        if self._answering is not None and not self._answering.response_complete:
            self._answering.disconnected = True
            self._answering.message_event.set()
        super().connection_lost(exc)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._answering = cycle
        super()._start_asgi_task(cycle, app)
        if self.leaving:
            self.leave()

    @property
    def idle(self) -> bool:
        """Whether no request is being received or answered."""
        return self.cycle is None or (self.cycle.response_complete and not self.pipeline)

    def leave(self) -> None:
        """Say `Connection: close` with the answer that is made, where it is the last that waits."""
        if self._answering is not None and not self.pipeline:
            self._answering.keep_alive = False

    def shutdown(self) -> None:
        """At the stop of the worker: what is asked is answered."""
        if self.idle:
            self.transport.close()
        else:
            self.leave()

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        self._began = False
        before = self._content
        self._parse(data)
        if self._began or self.transport.is_closing():
            return
        self._frame += len(data) - (self._content - before)
        allowed = MAX_HEAD_BYTES + (0 if self._in_head else MAX_FRAME * self._content)
        if self._frame > allowed:
            self._refuse("the request has too many bytes beside its content")

    def _parse(self, data: bytes) -> None:
        while True:
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as upgrade:
                # the parser took the request for one without content, and stopped behind its head
                data = self._without_upgrade() + data[upgrade.args[0] :]
            except httptools.HttpParserError:
                self.send_400_response("")
                return

    def _without_upgrade(self) -> bytes:
        """The head again, to be parsed anew: no upgrade is offered (RFC 9110, section 7.8)."""
        version = self.parser.get_http_version().encode()
        lines = [b"%s %s HTTP/%s" % (self.parser.get_method(), self.url, version)]
        for name, value in self.headers:
            if name == b"connection":
                tokens = (token.strip() for token in value.split(b","))
                value = b", ".join(token for token in tokens if token.lower() != b"upgrade")
            if name != b"upgrade":
                lines.append(name + b": " + value)
        self.parser = httptools.HttpRequestParser(self)
        return b"\r\n".join(lines) + b"\r\n\r\n"

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = self._began = True
        self._frame = self._content = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_head:
            return  # a trailer (RFC 9110, section 6.5): nobody asked for it
        super().on_header(name, value)
        if len(self.headers) > MAX_HEADERS:
            raise _RefusedError

    def on_headers_complete(self) -> None:
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if size > MAX_HEAD_BYTES or self.parser.get_method() == b"CONNECT":
            raise _RefusedError
        if self.parser.should_upgrade():
            return  # it comes again
        self._in_head = False
        before = self.cycle
        super().on_headers_complete()
        if self.cycle is not before:
            joined = _Joined(self.transport)
            cast(Any, self.cycle).transport = joined
            self.cycle.on_response = partial(self._completed, joined)

    def on_message_complete(self) -> None:
        if not self.parser.should_upgrade():
            super().on_message_complete()

    def _completed(self, joined: _Joined) -> None:
        joined.flush()
        self.on_response_complete()

    def on_body(self, body: bytes) -> None:
        self._content += len(body)
        super().on_body(body)

    def send_400_response(self, msg: str) -> None:
        """What the parser refused, or a callback above did."""
        self._refuse(f"the request is not HTTP/1.1 or has more than {MAX_HEADERS} headers")

    def _refuse(self, reason: str) -> None:
        cycle = self.cycle
        if self.pipeline or (cycle and not cycle.response_complete and not cycle.more_body):
            self.transport.close()  # it would be taken for the answer to an earlier request
            return
        request_id = request_id_of("")
        detail = f"{reason}; its head may have {MAX_HEAD_BYTES} bytes"
        logger.warning("a request was refused: %s", detail, extra={"request_id": request_id})
        error = BadParameter(detail)
        body = json.dumps({**problem(error), "request_id": request_id}).encode()
        head = (
            f"content-type: {MEDIA_TYPE}\r\ncontent-length: {len(body)}\r\n"
            f"x-request-id: {request_id}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(STATUS_LINE[error.http_status] + head.encode() + body)
        self.transport.close()
