"""Binds HTTP's port and checks gRPC's before anything starts, and prepares the first to close."""

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
"""A packet filter (BPF) that drops SYN packets: new connections cannot begin, others go on."""


def demand(settings: Settings, http: socket.socket | None = None) -> None:
    """Raise InvalidSettingsError where another socket is bound to the port of gRPC already.

    That may be ``http``, this service's own socket for HTTP. Workers share gRPC's port by
    SO_REUSEPORT, so another service would share it too, unnoticed, and the kernel would spread
    calls over both. Does nothing in workers, only in the process that `bentoml serve` starts.
    """
    if not settings.grpc_port or sys.argv[1:2] != ["serve"]:
        return
    try:
        family = socket.getaddrinfo(settings.host, settings.grpc_port, type=socket.SOCK_STREAM)
        with socket.socket(family[0][0]) as probe:
            # so that connections in TIME_WAIT are no obstacle
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
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
    """Bind the port of HTTP, exclusively. Exits with one line where that is impossible.

    Nobody listens on it before the first worker serves (`worker.listen`): until then connections
    are refused, so that balancers turn to other servers at once. Then it stays open until the stop.
    SO_REUSEADDR is switched off, or others could bind the port as long as nobody listens on it.
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
    """Let no new connection begin, so that those that wait can be accepted before the close.

    A connection that waits to be accepted when the socket is closed is reset. A client that
    connects meanwhile repeats its SYN, and is refused once the socket is closed. Does nothing on
    systems without packet filters.
    """
    code = ctypes.create_string_buffer(_NO_HANDSHAKE)
    program = struct.pack("HP", len(_NO_HANDSHAKE) // 8, ctypes.addressof(code))
    with suppress(OSError):
        listening.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
