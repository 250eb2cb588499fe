"""A real gRPC client for the tests, and a bare one for what no library would send."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import grpc
from google.rpc import error_details_pb2, status_pb2

from loadtests.clients import http2
from service.transports.grpc.protos import classifier_pb2 as messages
from service.transports.grpc.protos import classifier_pb2_grpc
from service.transports.grpc.status import DETAILS_KEY
from tests.photographs import CHELSEA, CHINA, COFFEE, FLOWER, ROCKET
from tests.server import Server

PICTURES = {path.stem: path.read_bytes() for path in (CHELSEA, CHINA, COFFEE, FLOWER, ROCKET)}
SECONDS = 30
"""Patience with a loaded machine."""


def request(*names: str, **more: Any) -> messages.ClassifyRequest:
    return messages.ClassifyRequest(images=[PICTURES[name] for name in names], **more)


def framed(message: bytes) -> bytes:
    """A message with gRPC's five bytes before it."""
    return b"\0" + len(message).to_bytes(4, "big") + message


def trailers(error: grpc.RpcError) -> dict[str, Any]:
    """The trailing metadata of an error."""
    return {each.key: each.value for each in error.trailing_metadata()}


def details(error: grpc.RpcError) -> tuple[str, status_pb2.Status]:
    """The stable code of an error, and its whole status."""
    status = status_pb2.Status.FromString(trailers(error)[DETAILS_KEY])
    assert status.code == error.code().value[0]
    assert status.message == error.details()
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert info.domain == "imagenet-zoo"
    return info.reason, status


def connected(server: Server) -> grpc.Channel:
    """A channel with a connection of its own."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    return grpc.insecure_channel(server.grpc_address, options=options)


def unary(channel: grpc.Channel, method: str) -> grpc.UnaryUnaryMultiCallable[Any, Any]:
    """A method that takes and yields the bytes of messages."""
    return channel.unary_unary(method)


def streaming(channel: grpc.Channel, method: str) -> grpc.StreamStreamMultiCallable[Any, Any]:
    """The same of a method with streams."""
    return channel.stream_stream(method)


def stub_of(channel: grpc.Channel) -> classifier_pb2_grpc.ClassifierStub:
    return classifier_pb2_grpc.ClassifierStub(channel)


class Wire:
    """A connection whose client sends frames as it is told, and reads those of the server."""

    def __init__(self, opened: socket.socket) -> None:
        self._socket = opened
        self._buffer = b""
        self._next = 1
        opened.settimeout(SECONDS)
        opened.sendall(http2.PREFACE + http2.frame(http2.SETTINGS, 0, 0, b""))

    def send(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        self._socket.sendall(http2.frame(kind, flags, stream, payload))

    def begin(self, method: bytes, message: bytes = b"", *, end: bool = False) -> int:
        """Open a call, send these bytes of its message, and end it perhaps; its stream."""
        stream, self._next = self._next, self._next + 2
        whole = http2.END_STREAM if end and not message else 0
        self.send(http2.HEADERS, http2.END_HEADERS | whole, stream, http2.head(method))
        if message:
            self.send(http2.DATA, http2.END_STREAM if end else 0, stream, message)
        return stream

    def frames(self) -> Iterator[tuple[int, int, int, bytes]]:
        """Kind, flags, stream and payload of each frame; ends when the server hangs up."""
        while True:
            while len(self._buffer) < 9 or len(self._buffer) < 9 + self._length():
                received = b""
                with contextlib.suppress(ConnectionResetError):  # it hung up on what we sent
                    received = self._socket.recv(1 << 16)
                if not received:
                    return
                self._buffer += received
            head, end = self._buffer[:9], 9 + self._length()
            payload, self._buffer = self._buffer[9:end], self._buffer[end:]
            yield head[3], head[4], int.from_bytes(head[5:9], "big"), payload

    def _length(self) -> int:
        return int.from_bytes(self._buffer[:3], "big")

    def trailers(self) -> Iterator[tuple[int, bytes]]:
        """Stream and header block of each call that ends, in the order in which they do."""
        for kind, flags, stream, payload in self.frames():
            if kind == http2.HEADERS and flags & http2.END_STREAM:
                yield stream, payload


@contextlib.contextmanager
def wire(server: Server) -> Iterator[Wire]:
    host, port = server.grpc_address.split(":")
    with socket.create_connection((host, int(port)), timeout=SECONDS) as opened:
        yield Wire(opened)
