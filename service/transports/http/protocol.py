"""HTTP/1.1 by llhttp, with limits: a parser in C takes a fraction of what one in Python does.

uvicorn's own protocol over httptools takes a head of any length, and answers what it cannot parse
in plain text. Here heads and whatever frames a chunked body are bounded as they arrive, and
everything refused is a problem document. `service.app` names this class to uvicorn.
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
"""Of a request's target and headers together, and of the trailers behind a chunked body."""
MAX_HEADERS = 256
NEVER_SECONDS = 10**9
"""uvicorn's own patience with idle connections."""
MAX_TURNED_AWAY = 64
"""Connections beyond the limit that are told so, at a time; more are closed without a word."""
FIRST_SECONDS = 1.0
"""At the stop, for the first request of a connection that was made last."""
YOUNG_SECONDS = 1.0
"""A connection that has waited for less is not closed in favour of a new one."""
PIECE_BYTES = 4096
"""Parsed at a time, unless it is content of a known length; a request has 16 bytes at least."""
MAX_FRAME = 16
"""Bytes beside each byte of a chunked body: a chunk of one byte takes five."""


class _RefusedError(Exception):
    """Raised while parsing: what is in the message is refused."""


class Connections:
    """What the connections of one worker have in common."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.open: set[BoundedProtocol] = set()
        """Those of now: uvicorn's own set."""
        self.reaper = Reaper()
        self.turned_away = 0
        """How many are open only to be told that there is no room."""
        self.leaving = False
        """Whether each is to end with its next answer."""

    def leave(self) -> None:
        """End each with the answer that is made now, or with its next one."""
        self.leaving = True
        for each in list(self.open):
            each.leave()

    def any_idle(self) -> bool:
        """Return whether there is one without a request."""
        return any(each.idle for each in self.open)


class BoundedProtocol(HttpToolsProtocol):
    """One connection. Answers 400 and hangs up when a head, or a body's frame, is too large.

    It ends as well when the client is idle or slow, and where there are too many: the one that has
    waited longest for a request makes room for a new one, else the new one is turned away.
    """

    def __init__(self, others: Connections, **options: Any) -> None:
        super().__init__(**options)
        self._others = others
        self._limits = others.limits
        others.open = cast("set[BoundedProtocol]", self.connections)
        self.access_log = False  # ours has a line for each request
        self._in_head = True
        self._began = False
        """Whether the present message began in what was received last."""
        self._frame = 0
        """Bytes of the present message, from the next read on, that are not content."""
        self._content = 0
        self._unparsed = b""
        """Received, but behind more requests than may wait."""
        self._answering: RequestResponseCycle | None = None
        self.timeout_keep_alive = NEVER_SECONDS  # `look` does it, and counts
        self._since = self.loop.time()
        """When the present wait began: for a request, its head or body, or its answer to leave."""
        self._message = False
        """Whether a request has begun to arrive and has not ended."""
        self._unsent: int | None = None
        """Bytes that waited for the client when it ceased to keep up."""
        self._turned_away = False
        self._fault: ZooError | None = None
        """Why a callback of the parser raised, where it knows."""
        self._ending = False
        """Whether what came last was refused, and what came before it is still answered."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(cast(asyncio.Transport, transport))
        self.flow = Flow(self.transport, self.pipeline, self._go_on)
        self._others.reaper.over(self.connections)
        metrics.HTTP_CONNECTIONS.set(len(self.connections))
        if len(self.connections) > self._limits.connections:
            self._make_room()

    def _make_room(self) -> None:
        """Close the connection that has waited longest for a request, or turn this one away."""
        waiting = [each for each in self._others.open if each is not self and each.waits]
        oldest = min(waiting, key=lambda each: each.since, default=None)
        if oldest is not None and self.loop.time() - oldest.since > YOUNG_SECONDS:
            oldest.end("room")
            return
        metrics.HTTP_ENDED.labels("too_many").inc()
        if self._others.turned_away >= MAX_TURNED_AWAY:
            self.transport.abort()
            return
        self._turned_away = True
        self._others.turned_away += 1

    @property
    def since(self) -> float:
        """When it began to wait for what it waits for, by the loop's clock."""
        return self._since

    @property
    def waits(self) -> bool:
        """Whether nobody here works for it: no request has its head, or its answer is out."""
        return self.idle and not self._turned_away and not self.transport.is_closing()

    def end(self, reason: str) -> None:
        """Close it because of the client, or for another one, and count that."""
        metrics.HTTP_ENDED.labels(reason).inc()
        self.transport.close()

    def look(self, now: float) -> None:
        """End it where the client is overdue; `Reaper` calls this once a second."""
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
                else:  # a body that nobody waits for: its request is answered
                    self.end("slow_body")
        elif self._receives_body and self._limits.too_slow(self._content, seconds):
            slow = f"the body arrived at less than {self._limits.rate} bytes per second"
            self._too_slow("slow_body", slow)

    @property
    def _receives_body(self) -> bool:
        """Whether the request whose turn it is waits for its body."""
        mine = self._message and self.cycle is self._answering
        return mine and not self.cycle.response_started and not self.flow.read_paused

    def _too_slow(self, reason: str, detail: str) -> None:
        metrics.HTTP_ENDED.labels(reason).inc()
        self._refuse(RequestTimeout(detail))

    def connection_lost(self, exc: Exception | None) -> None:
        """The request that is being answered hears of it, not only the newest."""
        if self._turned_away:
            self._others.turned_away -= 1
        self.pipeline.clear()
        self._unparsed = b""
        if self._answering is not None and not self._answering.response_complete:
            self._answering.disconnected = True
            self._answering.message_event.set()
        super().connection_lost(exc)
        self._unset_keepalive_if_required()  # else the timer would keep this for ever
        metrics.HTTP_CONNECTIONS.set(len(self.connections))

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._answering = cycle
        self._since = self.loop.time()
        super()._start_asgi_task(cycle, app)
        if self._others.leaving or self._ending:
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
        """At the stop of the worker: what is asked is answered, by a client just connected too."""
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
        """Parse what was left, as far as may be: there is room for more requests."""
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
        """Returns what is left where too many requests wait; reading pauses then."""
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
                # the parser took the request for one without content, and stopped behind its head
                data = self._without_upgrade() + piece[upgrade.args[0] :] + data
            except httptools.HttpParserError:
                self.send_400_response("")
                break
        return b""

    def _announced(self) -> int:
        """Bytes of the content that is arriving, where its head says so; else 0."""
        if not self._message or self._in_head:
            return 0
        return next((int(size) for name, size in self.headers if name == b"content-length"), 0)

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
        self._in_head = self._began = self._message = True
        self._frame = self._content = 0
        if self.idle:
            self._since = self.loop.time()

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
        version = self.parser.get_http_version()
        try:
            check_head(version, self.url, self.headers)
        except ZooError as fault:
            self._fault = fault.with_traceback(None)  # whose frames hold this: a circle
            raise _RefusedError from None
        if self.parser.should_upgrade():
            return  # it comes again
        self._in_head = False
        before = self.cycle
        super().on_headers_complete()
        if self.cycle is not before:
            if version == "1.0" and not self._others.leaving:  # uvicorn keeps none of these
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
        """What the parser refused, or a callback above did."""
        self._refuse(
            self._fault
            or _too_large(f"the request is not HTTP/1.1 or has more than {MAX_HEADERS} headers")
        )

    def _refuse(self, error: ZooError) -> None:
        """Answer the message that came last by ``error``, and end the connection.

        Nothing is written in the place of another answer: requests before that message are
        answered first, and the last of their answers says `Connection: close`.
        """
        broken = self.cycle if self._message and not self._in_head else None  # in its body
        if broken is None and not self.idle:
            self._end_after_answers(error)
        elif broken is not None and broken is not self._answering:
            self.pipeline.popleft()  # the newest; nobody has begun it
            self.cycle = self.pipeline[0][0] if self.pipeline else cast(Any, self._answering)
            self._end_after_answers(error)
        elif broken is not None and broken.response_started:
            self.transport.close()  # it would be taken for the answer to another request
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
