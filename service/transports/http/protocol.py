"""Speaks HTTP/1.1 on one connection, by the parser llhttp and with limits.

uvicorn's own protocol over httptools accepts a head of any length, and answers in plain text what
it cannot parse. `BoundedProtocol` bounds heads and the framing of chunked bodies as they arrive,
and refuses by a problem document. `service.app` names this class to uvicorn.
"""

from __future__ import annotations

import asyncio
import json
import logging
from functools import partial
from typing import Any, cast

import httptools
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from service.errors import BadParameter, NotReady, RequestTimeout, ZooError
from service.telemetry import metrics
from service.telemetry.request_id import request_id_of
from service.transports.http.heads import check_head
from service.transports.http.problems import MEDIA_TYPE, problem
from service.transports.http.slowness import Limits, Reaper
from service.transports.http.transport import MAX_WAITING, Flow, Joined

logger = logging.getLogger("zoo.http")

MAX_HEAD_BYTES = 64 * 1024
"""How many bytes the target and the headers of a request may have together; the trailers behind a
chunked body may have as many."""
MAX_HEADERS = 256
NEVER_SECONDS = 10**9
"""uvicorn's keep-alive timeout, which is put out of use: `look` closes idle connections."""
MAX_TURNED_AWAY = 64
"""So many connections beyond the limit are answered 503 at a time; further ones are just closed."""
FIRST_SECONDS = 1.0
"""At the stop: how long after connecting a client may still send its first request."""
YOUNG_SECONDS = 1.0
"""A connection that has been idle for less is not closed to make room for a new one."""
PIECE_BYTES = 4096
"""So many bytes are parsed at a time, except content of a known length. A request has at least 16,
so a piece cannot hold many requests beyond those that may wait."""
MAX_FRAME = 16
"""Bytes of framing that are allowed per byte of a chunked body; a chunk of one byte needs five."""


class _RefusedError(Exception):
    """Raised by a callback of the parser where the message is refused."""


class Connections:
    """What all HTTP connections of one worker share."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.open: set[BoundedProtocol] = set()
        """The open connections. This is uvicorn's own set."""
        self.reaper = Reaper()
        self.turned_away = 0
        """How many connections are open only to be answered 503."""
        self.leaving = False
        """Whether each connection is to close after its next answer."""

    def leave(self) -> None:
        """Close each connection after the answer in work, or after its next one."""
        self.leaving = True
        for each in list(self.open):
            each.leave()

    def any_idle(self) -> bool:
        """Whether some connection has no request."""
        return any(each.idle for each in self.open)


class BoundedProtocol(HttpToolsProtocol):
    """One connection. It answers 400 and closes when a head or the framing of a body is too large.

    It also closes when the client is idle or slow. Where there are too many connections, the one
    that has waited longest for a request makes room for a new one; where none waits, the new one
    is answered 503.
    """

    def __init__(self, shared: Connections, **options: Any) -> None:
        super().__init__(**options)
        self._shared = shared
        self._limits = shared.limits
        shared.open = cast("set[BoundedProtocol]", self.connections)
        self.access_log = False  # `RequestMiddleware` logs every request
        self._in_head = True
        self._began = False
        """Whether the current message began in the bytes received last."""
        self._frame = 0
        """Bytes of the current message that are not content, without those of its first read."""
        self._content = 0
        """Bytes of content of the current message."""
        self._unparsed = b""
        """Bytes that were received and not parsed, because too many requests wait."""
        self._answering: RequestResponseCycle | None = None
        self.timeout_keep_alive = NEVER_SECONDS  # `look` closes idle connections and counts them
        self._since = self.loop.time()
        """When the current wait began: for a request, its head or body, or an answer to be sent."""
        self._message = False
        """Whether a request is arriving: it has begun and not ended."""
        self._unsent: int | None = None
        """How many bytes were unsent when the client began to read too slowly."""
        self._turned_away = False
        self._fault: ZooError | None = None
        """The error that a callback of the parser found, if it knows one."""
        self._ending = False
        """Whether a message was refused while requests before it are still being answered."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(cast(asyncio.Transport, transport))
        self.flow = Flow(self.transport, self.pipeline, self._go_on)
        self._shared.reaper.over(self.connections)
        metrics.HTTP_CONNECTIONS.set(len(self.connections))
        if len(self.connections) > self._limits.connections:
            self._make_room()

    def _make_room(self) -> None:
        """Close the connection that has waited longest for a request, or answer this one 503."""
        waiting = [each for each in self._shared.open if each is not self and each.waits]
        oldest = min(waiting, key=lambda each: each.since, default=None)
        if oldest is not None and self.loop.time() - oldest.since > YOUNG_SECONDS:
            oldest.end("room")
            return
        metrics.HTTP_ENDED.labels("too_many").inc()
        if self._shared.turned_away >= MAX_TURNED_AWAY:
            self.transport.abort()
            return
        self._turned_away = True
        self._shared.turned_away += 1

    @property
    def since(self) -> float:
        """When its current wait began, by the loop's clock."""
        return self._since

    @property
    def waits(self) -> bool:
        """Whether it may be closed for another: no request of it is in work, nor its answer."""
        return self.idle and not self._turned_away and not self.transport.is_closing()

    def end(self, reason: str) -> None:
        """Close it and count that under ``reason``."""
        metrics.HTTP_ENDED.labels(reason).inc()
        self.transport.close()

    def look(self, now: float) -> None:
        """Close it where the client is too slow or idle too long; `Reaper` calls this."""
        seconds = now - self._since
        left = self.transport.get_write_buffer_size()
        if self.flow.write_paused or (left and self.transport.is_closing()):
            if self._unsent is None:
                self._unsent, self._since = left, now
            elif self._limits.too_slow(self._unsent - left, seconds):
                metrics.HTTP_ENDED.labels("slow_reader").inc()
                self.transport.abort()
            return
        self._unsent = None
        if self.transport.is_closing():
            return
        if self._turned_away:
            if seconds > self._limits.slow_s:
                self.transport.abort()
        elif self.waits:
            if not self._message and seconds > self._limits.idle_s:
                self.end("idle")
            elif self._message and seconds > self._limits.slow_s:
                if self._in_head:
                    self._too_slow("slow_head", "the head of the request did not arrive in time")
                else:  # the request was answered before its body had arrived
                    self.end("slow_body")
        elif self._receives_body and self._limits.too_slow(self._content, seconds):
            slow = f"the body arrived at less than {self._limits.rate} bytes per second"
            self._too_slow("slow_body", slow)

    @property
    def _receives_body(self) -> bool:
        """Whether the request that is being answered still waits for its body."""
        mine = self._message and self.cycle is self._answering
        return mine and not self.cycle.response_started and not self.flow.read_paused

    def _too_slow(self, reason: str, detail: str) -> None:
        metrics.HTTP_ENDED.labels(reason).inc()
        self._refuse(RequestTimeout(detail))

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the request that is being answered, too; uvicorn tells only the newest."""
        if self._turned_away:
            self._shared.turned_away -= 1
        self.pipeline.clear()
        self._unparsed = b""
        if self._answering is not None and not self._answering.response_complete:
            self._answering.disconnected = True
            self._answering.message_event.set()
        super().connection_lost(exc)
        self._unset_keepalive_if_required()  # its timer would keep this object alive
        metrics.HTTP_CONNECTIONS.set(len(self.connections))

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._answering = cycle
        self._since = self.loop.time()
        super()._start_asgi_task(cycle, app)
        if self._shared.leaving or self._ending:
            self.leave()

    @property
    def idle(self) -> bool:
        """Whether no request is being received or answered."""
        return self.cycle is None or (self.cycle.response_complete and not self.pipeline)

    def leave(self) -> None:
        """Send `Connection: close` with the answer in work, unless further requests wait."""
        if self._answering is not None and not self.pipeline:
            self._answering.keep_alive = False

    def shutdown(self) -> None:
        """Close it when the worker stops, after its requests are answered.

        A client that has just connected may still send its first request.
        """
        if not self.idle:
            self.leave()
        elif self.cycle is None and (left := self._since + FIRST_SECONDS - self.loop.time()) > 0:
            self.loop.call_later(left, self.shutdown)
        else:
            self.transport.close()

    def data_received(self, data: bytes) -> None:
        if self._ending:
            return
        self._unset_keepalive_if_required()
        if self._turned_away:
            most = f"this worker has {self._limits.connections} connections, which is its limit"
            self._refuse(NotReady(most, retry_after=1))
            return
        self._take(self._unparsed + data if self._unparsed else data)

    def _go_on(self) -> None:
        """Parse what was left unparsed, because there is room for more requests."""
        if self._unparsed and not self._ending and not self.transport.is_closing():
            self._take(self._unparsed)

    def _take(self, data: bytes) -> None:
        self._began = False
        before = self._content
        self._unparsed = self._parse(data)
        if self._began or self._ending or self.transport.is_closing():
            return
        self._frame += len(data) - len(self._unparsed) - (self._content - before)
        allowed = MAX_HEAD_BYTES + (0 if self._in_head else MAX_FRAME * self._content)
        if self._frame > allowed:
            self._refuse(_too_large("the request has too many bytes beside its content"))

    def _parse(self, data: bytes) -> bytes:
        """Parse the bytes and return those that are left because too many requests wait."""
        while data:
            if len(self.pipeline) > MAX_WAITING:
                return data
            size = len(data)
            if size > PIECE_BYTES:
                size = max(PIECE_BYTES, self._announced() - self._content)
            piece, data = data[:size], data[size:]
            try:
                self.parser.feed_data(piece)
            except httptools.HttpParserUpgrade as upgrade:
                # the parser assumed that no content follows, and stopped behind the head
                data = self._without_upgrade() + piece[upgrade.args[0] :] + data
            except httptools.HttpParserError:
                self.send_400_response("")
                break
        return b""

    def _announced(self) -> int:
        """Return the announced length of the content that is arriving; 0 where it is not known."""
        if not self._message or self._in_head:
            return 0
        return next((int(size) for name, size in self.headers if name == b"content-length"), 0)

    def _without_upgrade(self) -> bytes:
        """Return the head without its upgrade, to be parsed again (RFC 9110, section 7.8).

        The service offers no upgrade.
        """
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
        self._in_head = self._began = self._message = True
        self._frame = self._content = 0
        if self.idle:
            self._since = self.loop.time()

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_head:
            return  # a trailer (RFC 9110, section 6.5), which may be discarded
        super().on_header(name, value)
        if len(self.headers) > MAX_HEADERS:
            raise _RefusedError

    def on_headers_complete(self) -> None:
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if size > MAX_HEAD_BYTES or self.parser.get_method() == b"CONNECT":
            raise _RefusedError
        version = self.parser.get_http_version()
        try:
            check_head(version, self.url, self.headers)
        except ZooError as fault:
            self._fault = fault.with_traceback(None)  # its frames refer to self: a cycle
            raise _RefusedError from None
        if self.parser.should_upgrade():
            return  # the head is parsed again without its upgrade
        self._in_head = False
        before = self.cycle
        super().on_headers_complete()
        if self.cycle is not before:
            if version == "1.0" and not self._shared.leaving:  # uvicorn would close it
                self.cycle.keep_alive = self.parser.should_keep_alive()
            joined = Joined(self.transport, version == "1.0")
            cast(Any, self.cycle).transport = joined
            self.cycle.on_response = partial(self._completed, joined)

    def on_message_complete(self) -> None:
        self._message = False
        if not self.parser.should_upgrade():
            super().on_message_complete()

    def _completed(self, joined: Joined) -> None:
        joined.flush()
        self._since = self.loop.time()
        self.on_response_complete()

    def on_body(self, body: bytes) -> None:
        self._content += len(body)
        super().on_body(body)

    def send_400_response(self, msg: str) -> None:
        """Refuse a message that the parser, or a callback above, did not accept."""
        self._refuse(
            self._fault
            or _too_large(f"the request is not HTTP/1.1 or has more than {MAX_HEADERS} headers")
        )

    def _refuse(self, error: ZooError) -> None:
        """Answer the latest message with ``error`` and close the connection.

        Where requests before it are not answered yet, the error is only logged: a client would
        take it for the answer to one of them. They are answered first, and the last of their
        answers says `Connection: close`.
        """
        broken = self.cycle if self._message and not self._in_head else None  # broken in its body
        if broken is None and not self.idle:
            self._end_after_answers(error)
        elif broken is not None and broken is not self._answering:
            self.pipeline.popleft()  # it is the newest, and not yet begun
            self.cycle = self.pipeline[0][0] if self.pipeline else cast(Any, self._answering)
            self._end_after_answers(error)
        elif broken is not None and broken.response_started:
            self.transport.close()  # its own answer has begun: no other can follow
        else:
            self._write_refusal(error)

    def _end_after_answers(self, error: ZooError) -> None:
        logger.warning("what follows a request was refused: %s", error.detail)
        self._ending, self._message, self._unparsed = True, False, b""
        self.leave()

    def _write_refusal(self, error: ZooError) -> None:
        request_id = request_id_of("")
        detail = error.detail
        logger.warning("a request was refused: %s", detail, extra={"request_id": request_id})
        body = json.dumps({**problem(error), "request_id": request_id}).encode()
        head = (
            f"content-type: {MEDIA_TYPE}\r\ncontent-length: {len(body)}\r\n"
            f"x-request-id: {request_id}\r\nconnection: close\r\n"
        )
        if error.retry_after is not None:
            head += f"retry-after: {error.retry_after}\r\n"
        head += "\r\n"
        self.transport.write(STATUS_LINE[error.http_status] + head.encode() + body)
        self.transport.close()


def _too_large(reason: str) -> BadParameter:
    return BadParameter(f"{reason}; its head may have {MAX_HEAD_BYTES} bytes")
