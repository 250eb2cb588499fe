"""Whether the port of gRPC is free, asked before any worker binds to it."""

from __future__ import annotations

import errno
import socket
import sys

from service.settings import PREFIX, InvalidSettingsError, Settings


def demand(settings: Settings) -> None:
    """Raise InvalidSettingsError where somebody listens on the port already.

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
            place = f"{settings.host}:{settings.grpc_port}"
            raise InvalidSettingsError(f"{PREFIX}GRPC_PORT: {place} is in use") from None
