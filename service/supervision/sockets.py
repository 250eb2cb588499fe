"""The ports: whether they are free, asked before anything is started; and how one is closed."""

from __future__ import annotations

import ctypes
import errno
import socket
import struct
import sys
from contextlib import suppress
from typing import Any

from service.config.settings import PREFIX, InvalidSettingsError, Settings

_SO_ATTACH_FILTER = 26
_NO_HANDSHAKE = struct.pack(
    "HBBI" * 4,
    *(0x30, 0, 0, 13),  # load the byte of TCP's flags
    *(0x45, 0, 1, 0x02),  # SYN?
    *(0x06, 0, 0, 0),  # then drop it
    *(0x06, 0, 0, 0xFFFFFFFF),  # else take all of it
)
"""A packet filter (BPF): no connection begins any more, those that have begun are completed."""


def demand(settings: Settings, http: socket.socket | None = None) -> None:
    """Raise InvalidSettingsError where somebody listens on the port of gRPC already.

    That may be ``http``, the socket of this service that is bound to the port of HTTP.

    Workers share it by SO_REUSEPORT, so another service would as well, without a word, and calls
    would be spread over both. Asked by the process that `bentoml serve` starts, not by its workers.
    """
    if not settings.grpc_port or sys.argv[1:2] != ["serve"]:
        return
    try:
        family = socket.getaddrinfo(settings.host, settings.grpc_port, type=socket.SOCK_STREAM)
        with socket.socket(family[0][0]) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # past connections' rests
            probe.bind(family[0][4])
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            if http is not None and http.getsockname()[1] == settings.grpc_port:
                raise InvalidSettingsError(
                    f"{PREFIX}GRPC_PORT={settings.grpc_port}: this is also the port of HTTP, and "
                    "each needs its own (0: no gRPC)"
                ) from None
            place = f"{settings.host}:{settings.grpc_port}"
            raise InvalidSettingsError(f"{PREFIX}GRPC_PORT: {place} is in use") from None


def bind(listening: Any, settings: Settings) -> None:
    """Have the port of HTTP, alone. Exits with one line where that is impossible.

    The first worker listens on it when it serves (`worker.listen`): until then clients are refused,
    and balancers turn to others, where they would wait. After that the port is never closed until
    the stop. Without SO_REUSEADDR nobody can bind to what nobody listens on yet.
    """
    place = f"{listening.host}:{listening.port}"
    try:
        listening.bind((listening.host, listening.port))
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        listening.setblocking(False)
    except OSError as error:
        sys.exit(f"HTTP cannot listen on {place}: {error.strerror or error}")
    try:
        demand(settings, listening)
    except InvalidSettingsError as error:
        sys.exit(f"bad setting {error}")


def begin_no_more(listening: socket.socket) -> None:
    """Let no new connection begin, so that all that have begun can be accepted before the close.

    What waits to be accepted when a socket is closed is reset. Who tries meanwhile tries again by
    itself, and is refused once the socket is closed. Does nothing where the system has no filters.
    """
    code = ctypes.create_string_buffer(_NO_HANDSHAKE)
    program = struct.pack("HP", len(_NO_HANDSHAKE) // 8, ctypes.addressof(code))
    with suppress(OSError):
        listening.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
