"""Between a connection and its socket: heads that wait for their body, and reading that pauses."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sized

from uvicorn.protocols.http.flow_control import FlowControl

_CONTINUE = b"HTTP/1.1 100 "
MAX_WAITING = 16
"""Requests behind the one that is being answered, beyond which nothing more is parsed and the
connection not read. While it is not read, nobody sees that the client has left."""


class Joined:
    """The transport of one answer: its head waits for the first of its body, to go in one write.

    A client of HTTP/1.0 that asks to keep the connection is told where it is kept.
    """

    __slots__ = ("_head", "_tells", "_transport")

    def __init__(self, transport: asyncio.Transport, tells: bool = False) -> None:
        self._transport = transport
        self._head: bytes | None = None
        self._tells = tells

    def write(self, data: bytes) -> None:
        if self._head is None and not data.startswith(_CONTINUE):
            if self._tells and b"\r\nconnection: " not in data:
                data = data.removesuffix(b"\r\n") + b"connection: keep-alive\r\n\r\n"
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


class Flow(FlowControl):
    """Reads nothing while many requests wait behind the one that is being answered."""

    def __init__(
        self, transport: asyncio.Transport, waiting: Sized, go_on: Callable[[], None]
    ) -> None:
        """``go_on`` takes what was read before and had to wait, as far as there is room."""
        super().__init__(transport)
        self._waiting = waiting
        self._go_on = go_on

    def resume_reading(self) -> None:
        if len(self._waiting) <= MAX_WAITING:
            self._go_on()
        if len(self._waiting) <= MAX_WAITING:
            super().resume_reading()
