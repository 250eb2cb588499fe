"""grpcio's server, which keeps its port when the loop that accepts calls has failed.

The loop of grpcio 1.85 decodes the name of the method, so one HEADERS frame whose :path is no UTF-8
makes it fail. grpcio then closes the port, and ends the server when its last call ends: a watch of
the health may never do so. Here the port stays open until there is a successor.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, cast

import grpc
import grpc.aio
from grpc._cython import cygrpc
from grpc.aio import _server

logger = logging.getLogger("zoo.grpc")

LOOK_SECONDS = 0.1
"""How often a server is asked whether it lives, where grpcio has no such handler of failures."""

CALLS_SECONDS = 3600.0
"""How long calls may go on when their server has failed: watches have no end of their own."""

Options = Sequence[tuple[str, Any]]


class _Lasting(cygrpc.AioServer):
    """Tells that it has failed, and leaves the end to others."""

    def __init__(
        self, handlers: Sequence[grpc.GenericRpcHandler], options: tuple[tuple[str, Any], ...]
    ) -> None:
        super().__init__(asyncio.get_running_loop(), None, handlers, None, options, None)
        self.failed = asyncio.Event()

    def _serving_task_crash_handler(self, task: asyncio.Task[None]) -> None:
        """In place of grpcio's, which shuts down."""
        if not task.cancelled() and task.exception() is not None:
            error = task.exception()
            # what a client may send is no fault of the service
            level = logging.WARNING if isinstance(error, UnicodeError) else logging.ERROR
            logger.log(level, "gRPC can accept no more calls: %s", error)
            self.failed.set()


def _no_metadata(record: logging.LogRecord) -> bool:
    """Not of a traceback for every value of metadata that is no UTF-8: a call may have hundreds."""
    return not str(record.msg).startswith("Invalid encoding")


logging.getLogger(cygrpc.__name__).addFilter(_no_metadata)


def made(handlers: Sequence[grpc.GenericRpcHandler], options: Options) -> grpc.aio.Server:
    """A server of these methods, not yet bound."""
    if not hasattr(cygrpc.AioServer, "_serving_task_crash_handler"):
        server = grpc.aio.server(options=options)
        server.add_generic_rpc_handlers(tuple(handlers))
        return server
    lasting: Any = _server.Server.__new__(_server.Server)
    lasting._loop = asyncio.get_running_loop()
    lasting._server = _Lasting(handlers, tuple(options))
    return cast(grpc.aio.Server, lasting)


async def failed(server: grpc.aio.Server) -> None:
    """Wait until a server accepts no more calls though nobody stopped it."""
    inner: Any = getattr(server, "_server", None)
    if isinstance(inner, _Lasting):
        await inner.failed.wait()
        return
    with suppress(Exception):  # of whatever kind: it has ended; grpcio logs it
        while await server.wait_for_termination(LOOK_SECONDS):
            pass


async def finished(server: grpc.aio.Server) -> None:
    """Close the port of a server that has failed, and wait until its calls have ended."""
    for _ in range(2):  # the first raises what had failed once the port is closed
        with suppress(Exception):
            await server.stop(CALLS_SECONDS)
