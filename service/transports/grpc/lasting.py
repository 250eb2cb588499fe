"""grpcio's server, which keeps its port whatever clients send.

The loop of grpcio 1.85 that accepts calls decodes the name of a method that nobody registered, so
one HEADERS frame whose :path is no UTF-8 makes it fail. grpcio then closes the port, and ends the
server when its last call ends: a watch of the health may never do so. Here all methods are
registered, and a call of another one is answered without a look at its name. Should the loop fail
for another reason, or a release of grpcio lack the means, the port stays open until there is a
successor.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

import grpc
import grpc.aio
from grpc._cython import cygrpc
from grpc.aio import _server

if TYPE_CHECKING:
    from service.transports.grpc.methods import Methods

logger = logging.getLogger("zoo.grpc")

LOOK_SECONDS = 0.1
"""How often a server is asked whether it lives, where grpcio has no such handler of failures."""

CALLS_SECONDS = 3600.0
"""How long calls may go on when their server has failed: watches have no end of their own."""

UNKNOWN = "/unknown"
"""The name of every method that is not registered."""

Options = Sequence[tuple[str, Any]]

_REGISTERS = hasattr(cygrpc.AioServer, "_request_registered_call") and all(
    hasattr(cygrpc, name) for name in ("_handle_rpc", "_schedule_rpc_coro")
)
"""Whether grpcio can tell calls of registered methods from others, and lets us answer these."""


class _Others:
    """Finds the handler of methods that are not registered."""

    def __init__(self, methods: Methods) -> None:
        self._methods = methods

    def resolve_handler(self, details: grpc.HandlerCallDetails) -> Any:
        """As grpcio asks for it."""
        return self._methods.service(details)


class _Lasting(cygrpc.AioServer):
    """Tells that it has failed, and leaves the end to others."""

    def __init__(self, methods: Methods, options: tuple[tuple[str, Any], ...]) -> None:
        super().__init__(asyncio.get_running_loop(), None, (methods,), None, options, None)
        self.failed = asyncio.Event()
        self._others = _Others(methods)
        self._answering: set[asyncio.Task[None]] = set()
        if _REGISTERS:
            self.add_registered_method_handlers(methods.registered)

    async def _request_call(self) -> Any:
        """In place of grpcio's, which returns the next call of a method that is not registered."""
        while True:
            state = await super()._request_call()
            if not _REGISTERS:
                return state
            inner: Any = cygrpc  # no type hints
            loop = asyncio.get_running_loop()
            call = inner._handle_rpc(UNKNOWN, self._others, None, state, loop, False)
            answering = loop.create_task(inner._schedule_rpc_coro(call, state, loop, UNKNOWN))
            self._answering.add(answering)
            answering.add_done_callback(self._answering.discard)
            del state, call, answering

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


def made(methods: Methods, options: Options) -> grpc.aio.Server:
    """A server of these methods, not yet bound."""
    if not hasattr(cygrpc.AioServer, "_serving_task_crash_handler"):
        server = grpc.aio.server(options=options)
        server.add_generic_rpc_handlers((methods,))
        return server
    lasting: Any = _server.Server.__new__(_server.Server)
    lasting._loop = asyncio.get_running_loop()
    lasting._server = _Lasting(methods, tuple(options))
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
