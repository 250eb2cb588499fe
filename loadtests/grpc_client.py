"""A gRPC client that costs little, for the benchmarks: HTTP/2 frames made before they are sent.

A client library takes about as long for a call as the service does for its own part, on the cores
that both share. Here a request's bytes are ready, answers are counted by their frames, and what
HTTP/2 asks of a client (RFC 9113: windows, pings, settings) is done and nothing else. Answers with
a message count as 200, those without one (a status alone) as 500.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Sequence
from time import perf_counter
from typing import Any, cast

from loadtests.client import Load
from service.grpc.protos.classifier_pb2 import ClassifyRequest, ClassifyResponse

CLASSIFY, STREAM = b"/zoo.v1.Classifier/Classify", b"/zoo.v1.Classifier/ClassifyStream"

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
_END_STREAM, _END_HEADERS, _ACK = 0x1, 0x4, 0x1
_INITIAL_WINDOW_SIZE, _MAX_FRAME_SIZE = 4, 5
_LARGE = (1 << 31) - 1
_FRAME_HEAD = 9


def message(picture: bytes) -> bytes:
    """A ClassifyRequest with gRPC's five bytes before it."""
    encoded: bytes = ClassifyRequest(images=[picture]).SerializeToString()
    return b"\0" + len(encoded).to_bytes(4, "big") + encoded


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return _frame_head(len(payload), kind, flags, stream) + payload


def _frame_head(length: int, kind: int, flags: int, stream: int) -> bytes:
    return length.to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big")


def _setting(name: int, value: int) -> bytes:
    return name.to_bytes(2, "big") + value.to_bytes(4, "big")


def _field(name: bytes, value: bytes) -> bytes:
    """A header field that neither side remembers (RFC 7541, section 6.2.2), of short texts."""
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value


def _head(path: bytes) -> bytes:
    fields = (
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", path),
        (b":authority", b"localhost"),
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
    )
    return b"".join(itertools.starmap(_field, fields))


class _Sending:
    """A stream with bytes that its window, or the connection's, does not let through yet."""

    __slots__ = ("end", "number", "rest", "window")

    def __init__(self, number: int, window: int) -> None:
        self.number = number
        self.window = window
        self.rest = memoryview(b"")
        self.end = False


class Http2(asyncio.Protocol):
    """One connection with any number of calls at a time."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._window = 65_535
        self._stream_window = 65_535
        self._frame_size = 16_384
        self._next = 1
        self._streams: dict[int, _Sending] = {}
        self._held: deque[_Sending] = deque()
        self._received = 0
        self._answers: dict[int, asyncio.Future[bool]] = {}
        self._messages: dict[int, _Messages] = {}
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        settings = _setting(_INITIAL_WINDOW_SIZE, _LARGE)
        update = (_LARGE - 65_535).to_bytes(4, "big")
        self._transport.write(
            _PREFACE + _frame(_SETTINGS, 0, 0, settings) + _frame(_WINDOW_UPDATE, 0, 0, update)
        )

    def connection_lost(self, error: Exception | None) -> None:
        lost = error or ConnectionError("the server hung up")
        waiting: list[asyncio.Future[Any]] = [self._ready, *self._answers.values()]
        for future in waiting:
            if not future.done():
                future.set_exception(lost)
        for messages in self._messages.values():
            messages.put(None)

    async def ready(self) -> None:
        """Wait for the server's settings."""
        await self._ready

    def begin(self, path: bytes) -> int:
        """Open a stream; its number."""
        number, self._next = self._next, self._next + 2
        self._transport.write(_frame(_HEADERS, _END_HEADERS, number, _head(path)))
        self._streams[number] = _Sending(number, self._stream_window)
        return number

    def send(self, number: int, data: bytes, *, end: bool) -> None:
        """Send a message of a stream, as soon as the windows allow it."""
        stream = self._streams[number]
        stream.rest = memoryview(bytes(stream.rest) + data) if stream.rest else memoryview(data)
        stream.end = end
        if stream not in self._held:
            self._held.append(stream)
        self._flush()

    async def call(self, data: bytes) -> bool:
        """One unary call; whether an answer came."""
        number = self.begin(CLASSIFY)
        answer = asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        self.send(number, data, end=True)
        return cast(bool, await answer)

    def stream(self) -> tuple[int, _Messages]:
        """A bidirectional stream: its number and its answers."""
        number = self.begin(STREAM)
        self._messages[number] = _Messages()
        return number, self._messages[number]

    def close(self) -> None:
        """Hang up."""
        self._transport.close()

    def _flush(self) -> None:
        frames: list[bytes | memoryview] = []
        for _ in range(len(self._held)):
            stream = self._held.popleft()
            while stream.rest and (room := min(self._window, stream.window)) > 0:
                size = min(room, len(stream.rest), self._frame_size)
                part, stream.rest = stream.rest[:size], stream.rest[size:]
                end = _END_STREAM if stream.end and not stream.rest else 0
                frames += (_frame_head(size, _DATA, end, stream.number), part)
                self._window -= size
                stream.window -= size
            if stream.rest:
                self._held.append(stream)
        if frames:
            self._transport.writelines(frames)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        at = 0
        while len(self._buffer) - at >= _FRAME_HEAD:
            length = int.from_bytes(self._buffer[at : at + 3], "big")
            end = at + _FRAME_HEAD + length
            if len(self._buffer) < end:
                break
            kind, flags = self._buffer[at + 3], self._buffer[at + 4]
            number = int.from_bytes(self._buffer[at + 5 : at + 9], "big")
            self._frame(kind, flags, number, bytes(self._buffer[at + _FRAME_HEAD : end]))
            at = end
        del self._buffer[:at]
        self._flush()

    def _frame(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        if kind == _DATA:
            self._count(len(payload))
            if number in self._messages:
                self._messages[number].feed(payload)
            elif payload and number in self._answers:
                self._answers.pop(number).set_result(True)
        elif kind == _WINDOW_UPDATE:
            grown = int.from_bytes(payload, "big")
            if not number:
                self._window += grown
            elif number in self._streams:
                self._streams[number].window += grown
        elif kind == _SETTINGS and not flags & _ACK:
            self._settings(payload)
        elif kind == _PING and not flags & _ACK:
            self._transport.write(_frame(_PING, _ACK, 0, payload))
        elif kind == _GOAWAY:
            self._transport.close()
        if kind == _RST_STREAM or (kind in (_DATA, _HEADERS) and flags & _END_STREAM):
            self._ended(number)

    def _ended(self, number: int) -> None:
        self._streams.pop(number, None)
        if number in self._answers:
            self._answers.pop(number).set_result(False)
        if number in self._messages:
            self._messages.pop(number).put(None)

    def _count(self, received: int) -> None:
        """Give the connection's window back in large pieces; a stream's is never used up."""
        self._received += received
        if self._received > 1 << 24:
            self._transport.write(_frame(_WINDOW_UPDATE, 0, 0, self._received.to_bytes(4, "big")))
            self._received = 0

    def _settings(self, payload: bytes) -> None:
        for at in range(0, len(payload), 6):
            name = int.from_bytes(payload[at : at + 2], "big")
            value = int.from_bytes(payload[at + 2 : at + 6], "big")
            if name == _INITIAL_WINDOW_SIZE:
                for stream in self._streams.values():
                    stream.window += value - self._stream_window
                self._stream_window = value
            elif name == _MAX_FRAME_SIZE:
                self._frame_size = value
        self._transport.write(_frame(_SETTINGS, _ACK, 0, b""))
        if not self._ready.done():
            self._ready.set_result(None)


class _Messages:
    """The answers of one stream: how long each is, as they become complete."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._buffer = bytearray()

    def feed(self, data: bytes) -> None:
        """Bytes of the stream."""
        self._buffer += data
        while len(self._buffer) >= 5:
            end = 5 + int.from_bytes(self._buffer[1:5], "big")
            if len(self._buffer) < end:
                return
            self.put(bytes(self._buffer[5:end]))
            del self._buffer[:end]

    def put(self, answer: bytes | None) -> None:
        """An answer, or None at the end."""
        self._queue.put_nowait(answer)

    async def get(self) -> bytes:
        """The next answer. Raises ConnectionError when there is none."""
        answer = await self._queue.get()
        if answer is None:
            raise ConnectionError("the stream ended")
        return answer


async def connect(port: int, host: str = "127.0.0.1") -> Http2:
    """Open a connection and wait for the server's settings."""
    _, connection = await asyncio.get_running_loop().create_connection(Http2, host, port)
    await connection.ready()
    return connection


async def calls(port: int, at_once: int, messages: Sequence[bytes], seconds: float) -> Load:
    """Unary calls on one connection, ``at_once`` at a time; what is under way at the end counts."""
    connection = await connect(port)
    load = Load()
    turn = itertools.cycle(messages)
    start = perf_counter()
    stop = start + seconds

    async def one() -> None:
        while perf_counter() < stop:
            begun = perf_counter()
            answered = await connection.call(next(turn))
            load.note(200 if answered else 500, perf_counter() - begun)

    await asyncio.gather(*(one() for _ in range(at_once)))
    load.seconds = perf_counter() - start
    connection.close()
    return load


async def stream(port: int, at_once: int, messages: Sequence[bytes], s: float) -> Load:
    """One stream with ``at_once`` requests unanswered.

    Answers come in any order: the time of each is counted from the oldest request on.
    """
    connection = await connect(port)
    load = Load()
    turn = itertools.cycle(messages)
    number, answers = connection.stream()
    start = perf_counter()
    stop = start + s
    sent: deque[float] = deque()

    def send() -> None:
        sent.append(perf_counter())
        connection.send(number, next(turn), end=False)

    for _ in range(at_once):
        send()
    came: list[tuple[bytes, float]] = []
    while sent:
        came.append((await answers.get(), perf_counter() - sent.popleft()))
        if perf_counter() < stop:
            send()
    load.seconds = perf_counter() - start
    connection.close()
    for answer, seconds in came:
        results = ClassifyResponse.FromString(answer).results
        failed = any(result.WhichOneof("outcome") == "error" for result in results)
        load.note(500 if failed or not results else 200, seconds)
    return load
