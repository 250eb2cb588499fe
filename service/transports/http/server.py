"""Starts, drains and stops the HTTP of one worker, whose connections uvicorn accepts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from service.dataplane.dataplane import DataPlane
from service.transports.base import Transport
from service.transports.http.app import create_app
from service.transports.http.protocol import BoundedProtocol, Connections
from service.transports.http.slowness import Limits

if TYPE_CHECKING:
    from service.telemetry.spans import Tracer

LINGER_SECONDS = 0.3
"""At the stop: how long idle connections stay open, to answer what a client has just sent."""
LEAST_SECONDS = 0.05
"""At the stop: how long to wait at least, so that connections in the backlog are accepted."""


class HttpServer(Transport):
    """The ASGI app, and the connections over which uvicorn calls it."""

    def __init__(
        self,
        plane: DataPlane,
        tracer: Tracer | None,
        listen: Callable[[], None],
        end: Callable[[], None],
    ) -> None:
        """``listen`` opens the port; ``end`` tells uvicorn to close it and finish its requests."""
        settings = plane.settings
        self.app = create_app(plane, tracer)
        self._connections = Connections(
            Limits(
                settings.max_connections,
                settings.idle_ms / 1e3,
                settings.slow_ms / 1e3,
                settings.min_rate,
            )
        )
        self._listen = listen
        self._end = end
        self._stopping = False

    def connection(self, **options: Any) -> BoundedProtocol:
        """Return the protocol of a new connection, with the ``options`` that uvicorn passes."""
        return BoundedProtocol(self._connections, **options)

    async def start(self) -> None:
        """Listen on the port that the supervisor has bound."""
        self._listen()

    def drain(self) -> None:
        """Close every connection after its next answer."""
        self._connections.leave()

    async def stop(self) -> None:
        """Give idle connections `LINGER_SECONDS`, then tell uvicorn to end."""
        if self._stopping:
            return
        self._stopping = True
        loop = asyncio.get_running_loop()
        end = loop.time() + LINGER_SECONDS
        await asyncio.sleep(LEAST_SECONDS)
        while loop.time() < end and self._connections.any_idle():  # noqa: ASYNC110
            await asyncio.sleep(LEAST_SECONDS)
        self._end()
