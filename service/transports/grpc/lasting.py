"""Makes a grpcio server that keeps its port whatever clients send.

The loop of grpcio 1.85 that accepts calls decodes the names of methods that are not registered, so
a single HEADERS frame whose :path is not UTF-8 makes it fail. grpcio then closes the port, and ends
the server when its last call ends, which a health watch may never do. Here all methods are
registered, and calls of others are answered without decoding their names. Should the loop fail for
another reason, or a release of grpcio lack these functions, the port stays open until a new server
has bound it.
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
"""How often a server is asked whether it lives, where grpcio does not report its failure."""

CALLS_SECONDS = 3600.0
"""How long the calls of a failed server may go on; a watch would never end by itself."""

UNKNOWN = "/unknown"
"""The name under which calls of unregistered methods are answered."""

Options = Sequence[tuple[str, Any]]

_REGISTERS = hasattr(cygrpc.AioServer, "_request_registered_call") and all(
    hasattr(cygrpc, name) for name in ("_handle_rpc", "_schedule_rpc_coro")
)
"""Whether this grpcio tells calls of registered methods from others and lets us answer those."""


class _Others:
    """Finds the handler for methods that are not registered."""

    def __init__(self, methods: Methods) -> None:
        self._methods = methods

    def resolve_handler(self, details: grpc.HandlerCallDetails) -> Any:
        """Return the handler; grpcio calls this."""
        return self._methods.service(details)


class _Lasting(cygrpc.AioServer):
    """grpcio's server, which sets ``failed`` when it fails, and does not shut down by itself."""

    def __init__(self, methods: Methods, options: tuple[tuple[str, Any], ...]) -> None:
        super().__init__(asyncio.get_running_loop(), None, (methods,), None, options, None)
        self.failed = asyncio.Event()
        self._others = _Others(methods)
        self._answering: set[asyncio.Task[None]] = set()
        if _REGISTERS:
            self.add_registered_method_handlers(methods.registered)

    async def _request_call(self) -> Any:
        """Answer calls of unregistered methods here; grpcio's own returns each to be decoded."""
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
        """Report that the loop which accepts calls has failed; grpcio's own shuts down."""
        if not task.cancelled() and task.exception() is not None:
            error = task.exception()
            # a client's bytes can cause a UnicodeError: it is no fault of the service
            level = logging.WARNING if isinstance(error, UnicodeError) else logging.ERROR
            logger.log(level, "gRPC can accept no more calls: %s", error)
            self.failed.set()


def _no_metadata(record: logging.LogRecord) -> bool:
    """Filter out grpcio's tracebacks of metadata that is not UTF-8: a call may cause hundreds."""
    return not str(record.msg).startswith("Invalid encoding")


logging.getLogger(cygrpc.__name__).addFilter(_no_metadata)


def made(methods: Methods, options: Options) -> grpc.aio.Server:
    """Make a server of these methods, not yet bound."""
    if not hasattr(cygrpc.AioServer, "_serving_task_crash_handler"):
        server = grpc.aio.server(options=options)
        server.add_generic_rpc_handlers((methods,))
        return server
    lasting: Any = _server.Server.__new__(_server.Server)
    lasting._loop = asyncio.get_running_loop()
    lasting._server = _Lasting(methods, tuple(options))
    return cast(grpc.aio.Server, lasting)


async def failed(server: grpc.aio.Server) -> None:
    """Wait until a server has failed: it accepts no more calls, though nobody stopped it."""
    inner: Any = getattr(server, "_server", None)
    if isinstance(inner, _Lasting):
        await inner.failed.wait()
        return
    with suppress(Exception):  # it has ended, whatever it raised; grpcio logs that
        while await server.wait_for_termination(LOOK_SECONDS):
            pass


async def finished(server: grpc.aio.Server) -> None:
    """Close the port of a server that has failed, and wait until its calls have ended."""
    for _ in range(2):  # the first closes the port and raises the server's failure
        with suppress(Exception):
            await server.stop(CALLS_SECONDS)
