"""Stands between a connection and its socket: joins head and body, and pauses reading."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sized

from uvicorn.protocols.http.flow_control import FlowControl

_CONTINUE = b"HTTP/1.1 100 "
MAX_WAITING = 16
"""While more requests than this wait behind the one that is being answered, nothing more of the
connection is parsed or read. Until it is read again, nobody notices that the client has left."""


class Joined:
    """The transport of one answer: writes its head together with the first piece of its body."""

    __slots__ = ("_head", "_says_kept", "_transport")

    def __init__(self, transport: asyncio.Transport, says_kept: bool = False) -> None:
        """``says_kept``: write `Connection: keep-alive`, which a client of HTTP/1.0 needs."""
        self._transport = transport
        self._head: bytes | None = None
        self._says_kept = says_kept

    def write(self, data: bytes) -> None:
        if self._head is None and not data.startswith(_CONTINUE):
            if self._says_kept and b"\r\nconnection: " not in data:
                data = data.removesuffix(b"\r\n") + b"connection: keep-alive\r\n\r\n"
            self._head = data  # never empty, and a body follows or the transport is closed
        elif self._head:
            self._transport.write(self._head + data)
            self._head = b""
        else:
            self._transport.write(data)

    def flush(self) -> None:
        """Write a head whose answer has no body, as one to HEAD."""
        if self._head:
            self.write(b"")

    def close(self) -> None:
        self.flush()
        self._transport.close()

    def is_closing(self) -> bool:
        return self._transport.is_closing()


class Flow(FlowControl):
    """Pauses reading while many requests wait behind the one that is being answered."""

    def __init__(
        self, transport: asyncio.Transport, waiting: Sized, go_on: Callable[[], None]
    ) -> None:
        """``waiting`` are the requests that wait.

        ``go_on`` parses bytes that were read and had to wait, as far as there is room for more.
        """
        super().__init__(transport)
        self._waiting = waiting
        self._go_on = go_on

    def resume_reading(self) -> None:
        if len(self._waiting) <= MAX_WAITING:
            self._go_on()
        if len(self._waiting) <= MAX_WAITING:
            super().resume_reading()
