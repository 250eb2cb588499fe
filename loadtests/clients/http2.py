"""Speak HTTP/2 for gRPC as far as a client must (RFC 9113: windows, pings, settings).

Frames are made of bytes that are ready; answers are counted by their frames.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from typing import Any, cast

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, END_HEADERS, ACK = 0x1, 0x4, 0x1
_INITIAL_WINDOW_SIZE, _MAX_FRAME_SIZE = 4, 5
_LARGE = (1 << 31) - 1
_FRAME_HEAD = 9


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """Return a frame as it is sent; ``stream`` 0 is the connection."""
    return _frame_head(len(payload), kind, flags, stream) + payload


def _frame_head(length: int, kind: int, flags: int, stream: int) -> bytes:
    return length.to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big")


def _setting(name: int, value: int) -> bytes:
    return name.to_bytes(2, "big") + value.to_bytes(4, "big")


def field(name: bytes, value: bytes) -> bytes:
    """Encode a short header field that neither side remembers (RFC 7541, section 6.2.2)."""
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value


def fields(path: bytes) -> list[tuple[bytes, bytes]]:
    """Return the header fields of a call of the method ``path``."""
    return [
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", path),
        (b":authority", b"localhost"),
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
    ]


def head(path: bytes) -> bytes:
    """Return the header block of such a call."""
    return b"".join(itertools.starmap(field, fields(path)))


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
        self._heads: list[bytes] = []
        self._streams: dict[int, _Sending] = {}
        self._held: deque[_Sending] = deque()
        self._received = 0
        self._answers: dict[int, asyncio.Future[bool]] = {}
        self._messages: dict[int, Messages] = {}
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        settings = _setting(_INITIAL_WINDOW_SIZE, _LARGE)
        update = (_LARGE - 65_535).to_bytes(4, "big")
        self._transport.write(
            PREFACE + frame(SETTINGS, 0, 0, settings) + frame(WINDOW_UPDATE, 0, 0, update)
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
        """Open a stream and return its number; its head goes out with its first message."""
        number, self._next = self._next, self._next + 2
        self._heads.append(frame(HEADERS, END_HEADERS, number, head(path)))
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

    async def call(self, path: bytes, data: bytes) -> bool:
        """Make a unary call; return whether an answer came."""
        number = self.begin(path)
        answer = asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        self.send(number, data, end=True)
        return cast(bool, await answer)

    def stream(self, path: bytes) -> tuple[int, Messages]:
        """Open a bidirectional stream; return its number and its answers."""
        number = self.begin(path)
        self._messages[number] = Messages()
        return number, self._messages[number]

    def close(self) -> None:
        """Hang up."""
        self._transport.close()

    def _flush(self) -> None:
        frames: list[bytes | memoryview] = [*self._heads]
        self._heads.clear()
        for _ in range(len(self._held)):
            stream = self._held.popleft()
            while stream.rest and (room := min(self._window, stream.window)) > 0:
                size = min(room, len(stream.rest), self._frame_size)
                part, stream.rest = stream.rest[:size], stream.rest[size:]
                end = END_STREAM if stream.end and not stream.rest else 0
                frames += (_frame_head(size, DATA, end, stream.number), part)
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
        if kind == DATA:
            self._count(len(payload))
            if number in self._messages:
                self._messages[number].feed(payload)
            elif payload and number in self._answers:
                self._answers.pop(number).set_result(True)
        elif kind == WINDOW_UPDATE:
            grown = int.from_bytes(payload, "big")
            if not number:
                self._window += grown
            elif number in self._streams:
                self._streams[number].window += grown
        elif kind == SETTINGS and not flags & ACK:
            self._settings(payload)
        elif kind == PING and not flags & ACK:
            self._transport.write(frame(PING, ACK, 0, payload))
        elif kind == GOAWAY:
            self._transport.close()
        if kind == RST_STREAM or (kind in (DATA, HEADERS) and flags & END_STREAM):
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
            self._transport.write(frame(WINDOW_UPDATE, 0, 0, self._received.to_bytes(4, "big")))
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
        self._transport.write(frame(SETTINGS, ACK, 0, b""))
        if not self._ready.done():
            self._ready.set_result(None)


class Messages:
    """The answers of one stream: how long each is, as they become complete."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._buffer = bytearray()

    def feed(self, data: bytes) -> None:
        """Take bytes of the stream."""
        self._buffer += data
        while len(self._buffer) >= 5:
            end = 5 + int.from_bytes(self._buffer[1:5], "big")
            if len(self._buffer) < end:
                return
            self.put(bytes(self._buffer[5:end]))
            del self._buffer[:end]

    def put(self, answer: bytes | None) -> None:
        """Add an answer, or None at the end."""
        self._queue.put_nowait(answer)

    async def get(self) -> bytes:
        """Return the next answer. Raises ConnectionError at the end."""
        answer = await self._queue.get()
        if answer is None:
            raise ConnectionError("the stream ended")
        return answer
