"""A client of HTTP that costs little, because it shares the cores with the service.

Each connection sends one request after the other, over HTTP/1.1 with keep-alive, and takes the
time until the last byte of the answer.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, TypeVar, cast

import uvloop

T = TypeVar("T")

GET_LIVEZ = b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
_HEAD_END = b"\r\n\r\n"
_LENGTH = b"\r\ncontent-length:"
_CHUNKED = b"\r\ntransfer-encoding: chunked\r\n"


@dataclass
class Load:
    """The answers to one slice of load."""

    seconds: float = 0.0
    latencies_s: list[float] = field(default_factory=list)
    """Seconds until each answer with status 200."""
    statuses: Counter[int] = field(default_factory=Counter)
    refusals_s: list[tuple[int, float]] = field(default_factory=list)
    """Status and seconds of each other answer."""

    def of_status(self, status: int) -> list[float]:
        """Return the seconds until the answers with this status, which is not 200."""
        return [taken for other, taken in self.refusals_s if other == status]

    def note(self, status: int, seconds: float) -> None:
        """Count an answer that took so many seconds."""
        self.statuses[status] += 1
        if status == 200:
            self.latencies_s.append(seconds)
        else:
            self.refusals_s.append((status, seconds))

    @property
    def rate(self) -> float:
        """Answers with status 200 per second."""
        return self.statuses[200] / self.seconds


def raw(picture: bytes, path: str = "/classify", headers: str = "") -> bytes:
    """Return a request whose body is the picture.

    ``headers`` holds further lines, each with its CRLF.
    """
    return request(path, "image/jpeg", picture, headers)


def multipart(picture: bytes, path: str = "/classify", field_name: str = "image") -> bytes:
    """Return a request with the picture as a part of a form, as ``curl -F`` sends it."""
    boundary = "------------------------0123456789abcdef"
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="{field_name}"; '
        'filename="picture.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'
    ).encode()
    body = head + picture + f"\r\n--{boundary}--\r\n".encode()
    return request(path, f"multipart/form-data; boundary={boundary}", body)


def request(path: str, content_type: str, body: bytes, headers: str = "") -> bytes:
    """Return a POST request; ``headers`` holds further lines, each with its CRLF."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {content_type}\r\n"
        f"Content-Length: {len(body)}\r\n{headers}\r\n"
    )
    return head.encode() + body


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run ``work`` in an event loop that takes little of the machine, and return its result."""
    return uvloop.run(work)


class Connection(asyncio.Protocol):
    """One connection that can carry one request at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._at = 0
        """Where the body begins, or its next chunk; 0 before the head is there."""
        self._end: int | None = None
        """Where the answer ends; None before that is known."""
        self._chunks: bytearray | None = None
        self._answer: asyncio.Future[int] | None = None
        self.body = b""
        self.ends = False
        """Whether the last answer said that the server closes the connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._at and not self._read_head():
            return
        if self._chunks is not None:
            self._read_chunks(self._chunks)
        if self._end is None or len(self._buffer) < self._end or self._answer is None:
            return
        status = int(self._buffer[9:12])
        whole = self._buffer[self._at : self._end] if self._chunks is None else self._chunks
        self.body = bytes(whole)
        del self._buffer[: self._end]
        self._at, self._end, self._chunks = 0, None, None
        answer, self._answer = self._answer, None
        answer.set_result(status)

    def _read_head(self) -> bool:
        """Note where the body lies; return whether the head is complete."""
        end = self._buffer.find(_HEAD_END)
        if end < 0:
            return False
        head = bytes(self._buffer[: end + 2]).lower()
        self._at = end + len(_HEAD_END)
        self.ends = b"\r\nconnection: close\r\n" in head
        start = head.find(_LENGTH)
        if start >= 0:
            length = int(head[start + len(_LENGTH) : head.index(b"\r\n", start + 2)])
            self._end = self._at + length
        elif _CHUNKED in head:
            self._chunks = bytearray()
        else:
            raise ValueError(f"an answer without a length: {head!r}")
        return True

    def _read_chunks(self, body: bytearray) -> None:
        """Move the chunks that are complete into the body (RFC 9112, section 7.1)."""
        while (line := self._buffer.find(b"\r\n", self._at)) >= 0:
            size = int(self._buffer[self._at : line].partition(b";")[0], 16)
            if size == 0:  # fields may follow, then an empty line
                end = self._buffer.find(_HEAD_END, line)
                self._end = None if end < 0 else end + len(_HEAD_END)
                return
            start, end = line + 2, line + 2 + size
            if len(self._buffer) < end + 2:
                return
            body += self._buffer[start:end]
            self._at = end + 2

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error or ConnectionError("the server hung up"))

    async def send(self, request: bytes) -> int:
        """Send a whole request and return the status of the answer."""
        if self._transport is None:
            raise ConnectionError("the connection is closed")
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer

    @property
    def closed(self) -> bool:
        """Whether nothing can be sent any more."""
        return self._transport is None or self._transport.is_closing()

    @property
    def waiting(self) -> bool:
        """Whether a request is unanswered."""
        return self._answer is not None

    @property
    def is_open(self) -> bool:
        """Whether neither side has hung up, as far as is known."""
        return self._transport is not None and not self._transport.is_closing()

    @property
    def port(self) -> int:
        """The client's own port."""
        assert self._transport is not None  # noqa: S101
        port: int = self._transport.get_extra_info("sockname")[1]
        return port

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.close()


async def connect(port: int, connections: int, host: str = "127.0.0.1") -> list[Connection]:
    """Open connections to a server."""
    loop = asyncio.get_running_loop()
    pairs = [await loop.create_connection(Connection, host, port) for _ in range(connections)]
    return [protocol for _, protocol in pairs]


async def closed_loop(
    connections: Sequence[Connection], requests: Sequence[bytes], seconds: float
) -> Load:
    """Let every connection send as fast as it is answered; count what is under way at the end.

    The rate is that of the answers over the time until the last of them.
    """
    load = Load()
    turn = itertools.cycle(requests)
    start = perf_counter()
    stop = start + seconds

    async def one(connection: Connection) -> None:
        while perf_counter() < stop:
            await _timed(connection, next(turn), load)

    await asyncio.gather(*map(one, connections))
    load.seconds = perf_counter() - start
    return load


async def open_loop(
    port: int, requests: Sequence[bytes], arrivals: Sequence[float], most: int = 512
) -> Load:
    """Send requests at ``arrivals``, seconds from the start, whether or not others are answered.

    Latencies count from the moment a request was due, not from when it could be sent. Raises
    ConnectionError when more than ``most`` connections would be needed.
    """
    load = Load()
    idle: list[Connection] = await connect(port, min(most, 16))
    opened = len(idle)
    start = perf_counter()

    async def one(due: float, request: bytes) -> None:
        nonlocal opened
        if not idle:
            if opened == most:
                raise ConnectionError(f"more than {most} requests are unanswered")
            opened += 1
            idle.extend(await connect(port, 1))
        connection = idle.pop()
        status = await connection.send(request)
        idle.append(connection)
        load.note(status, perf_counter() - start - due)

    tasks = []
    for due, request in zip(arrivals, itertools.cycle(requests), strict=False):
        wait = due - (perf_counter() - start)
        if wait > 0:
            await asyncio.sleep(wait)
        tasks.append(asyncio.ensure_future(one(due, request)))
    await asyncio.gather(*tasks)
    load.seconds = perf_counter() - start
    for connection in idle:
        connection.close()
    return load


async def _timed(connection: Connection, request: bytes, load: Load) -> None:
    begun = perf_counter()
    load.note(await connection.send(request), perf_counter() - begun)
