"""Wraps every method of the server: keys, limits of calls and messages, errors, the access log.

The handlers that grpcio gets read and write bytes, so that a message is counted before it is
parsed, and one that cannot be parsed is refused with details. One coroutine wraps each method,
because interceptors, and methods that grpcio finds by name, cost every call more.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import aclosing, nullcontext
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from service.dataplane.dataplane import DataPlane
from service.errors import BadParameter, NotFound, Overloaded, ZooError
from service.telemetry.facts import begin
from service.telemetry.request_metrics import Reading, refused
from service.transports.auth import Access, Need
from service.transports.grpc.access import need_of
from service.transports.grpc.arrivals import Arrivals, Requests, checked, in_time
from service.transports.grpc.calls import Call, Context

if TYPE_CHECKING:
    from service.telemetry.spans import Tracer

TRANSPORT = "grpc"
MOST_PROBES = 256
"""How many calls that need no key may be open at a time; they do not count as other calls."""
MAX_LOGGED_METHOD = 256
MAX_SMALL_BYTES = 64 * 1024
"""How large a message may be that holds names, not pictures or tensors; a watch keeps its own."""
_QUIET = ("/grpc.health.v1.", "/grpc.reflection.")
_CLASSIFYING = (
    "/zoo.v1.Classifier/Classify",  # and ClassifyStream
    "/inference.GRPCInferenceService/ModelInfer",
    "/inference.GRPCInferenceService/ModelStreamInfer",
)
"""The methods whose calls are counted as requests; the data plane counts those that reach it."""

# in quotes: generic to a type checker alone
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"


class Methods(grpc.GenericRpcHandler):
    """The handlers of all methods, and one for unknown methods."""

    def __init__(self, plane: DataPlane, tracer: Tracer | None) -> None:
        """Call this in the event loop that serves."""
        settings = plane.settings
        self.plane = plane
        self.tracer = tracer
        self.access = Access.of(settings)
        self.arrivals = Arrivals(
            settings.deadline_ms / 1e3,
            settings.max_bodies_bytes // settings.max_body_bytes,
            plane.deadlines,
        )
        self.calls = Places(settings.grpc_max_calls)
        self.probes = Places(MOST_PROBES)
        self.in_work = InWork()
        self._handlers: dict[str, Handler] = {}

    def add_generic_rpc_handlers(self, handlers: object) -> None:
        """Do nothing. Generated code takes this for a server and calls this and the next method."""

    def add_registered_method_handlers(self, service: str, methods: Mapping[str, Handler]) -> None:
        """Wrap and keep the methods of a service."""
        for name, handler in methods.items():
            path = f"/{service}/{name}"
            self._handlers[path] = _Method(self, path, handler).handler()

    @property
    def registered(self) -> Mapping[str, Handler]:
        """The methods by their paths."""
        return self._handlers

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Handler:
        """Return the handler of the method that is called."""
        path = handler_call_details.method
        return self._handlers.get(path) or _Method(self, path).handler()

    async def idle(self) -> None:
        """Wait until every call whose message was read is answered, except probes."""
        await self.in_work.none()


class _Method:
    """One method: does what comes before and after the servicer's part of a call."""

    def __init__(self, methods: Methods, path: str, handler: Handler | None = None) -> None:
        """Wrap the servicer's ``handler``; None: the method is unknown."""
        self._path = path[:MAX_LOGGED_METHOD]
        self._handler = handler
        self._plane = methods.plane
        self._tracer = methods.tracer
        self._bodies = methods.plane.bodies
        self._access = methods.access
        self._arrivals = methods.arrivals
        self._need = need_of(path)
        self._places = methods.probes if self._need is Need.NOTHING else methods.calls
        quiet = path.startswith(_QUIET)
        self._level = logging.DEBUG if quiet else logging.INFO
        self._idle_s = self._plane.settings.idle_ms / 1e3 if quiet else None
        self._in_work = nullcontext() if quiet else methods.in_work
        self._classifies = handler is not None and path.startswith(_CLASSIFYING)
        limit = self._plane.settings.max_body_bytes
        self._limit = limit if self._classifies else min(limit, MAX_SMALL_BYTES)

    def handler(self) -> Handler:
        """Return the handler that grpcio calls.

        For grpcio every method takes a stream, so that a call can be refused before its message
        has arrived.
        """
        inner: Any = self._handler  # its types are those of synchronous methods
        if inner is None:
            return grpc.stream_unary_rpc_method_handler(cast(Any, self._unknown))
        self._parse = _parser(inner.request_deserializer)
        self._serialize: Callable[[Any], bytes] = inner.response_serializer
        if not inner.response_streaming:
            self._inner = inner.unary_unary
            return grpc.stream_unary_rpc_method_handler(cast(Any, self._unary))
        self._inner = inner.stream_stream if inner.request_streaming else inner.unary_stream
        return grpc.stream_stream_rpc_method_handler(cast(Any, self._stream))

    async def _unary(self, _: object, context: Context) -> bytes | None:
        call = Call(self._path, self._level, context, self._tracer)
        begin(call.facts)
        try:
            return await self._answered(call, context)
        except BaseException as error:
            if not await self._failed(call, error):
                raise
            return None  # the error was the answer
        finally:
            call.log()

    async def _answered(self, call: Call, context: Context) -> bytes:
        """Answer a unary call.

        The frames that hold its message have ended before `_unary` answers an error.
        """
        self._check(call)
        with self._places:
            message = await self._arrivals.read(context, self._limit)
            size = len(message)
            if call.trace is not None:
                call.trace.read()
            self._bodies.take(size)
            try:
                with self._in_work:
                    request = self._parse(message)
                    del message
                    call.uncounted = False
                    answering = self._inner(request, context)
                    del request  # the method lets go of it once it has what it needs
                    return self._serialize(await answering)
            finally:
                self._bodies.give(size)

    async def _stream(self, _: object, context: Context) -> None:
        call = Call(self._path, self._level, context, self._tracer)
        try:
            await self._answer(call, context)
        except BaseException as error:
            if not await self._failed(call, error):
                raise
        finally:
            call.log()

    async def _answer(self, call: Call, context: Context) -> None:
        """Write the answers of a streaming call."""
        self._check(call)
        with self._places, self._in_work:
            call.uncounted = False
            async with aclosing(self._inner(await self._requests(context), context)) as answers:
                async for answer in answers:
                    writing = _write(context, self._serialize(answer))
                    await in_time(writing, self._idle_s, "the answer was not taken")

    async def _unknown(self, _: object, context: Context) -> None:
        call = Call(self._path, self._level, context, self._tracer)
        try:
            self._check(call)
            raise NotFound("there is no such method")
        except BaseException as error:
            if not await self._failed(call, error):
                raise
        finally:
            call.log()

    def _check(self, call: Call) -> None:
        if self._access is not None:
            self._access.check(self._need, call.authorization, transport=TRANSPORT)
        call.uncounted = self._classifies

    async def _requests(self, context: Context) -> Any:
        """Return the request of a call with many answers, or the iterator of its requests."""
        assert self._handler is not None  # noqa: S101
        if self._handler.request_streaming:
            return Requests(context, self._parse_and_count, self._idle_s)
        return self._parse(await self._arrivals.read(context, self._limit))

    def _parse_and_count(self, message: bytes) -> Any:
        """Parse a message of a stream. Raises and counts BodyTooLarge and BadParameter."""
        with Reading(TRANSPORT) if self._classifies else nullcontext():
            return self._parse(checked(message, self._limit))

    async def _failed(self, call: Call, error: BaseException) -> bool:
        """Count and answer an error. Returns False where the caller must raise it again."""
        if call.uncounted:
            code = error.code if isinstance(error, ZooError) else "cancelled"
            refused(TRANSPORT, code)
        return await call.failed(error)


async def _write(context: Context, message: bytes) -> None:
    """Write an answer of a stream. Raises CancelledError where the client has gone meanwhile."""
    try:
        await context.write(message)
    except Exception as error:  # noqa: BLE001 - grpcio's own family is private
        raise asyncio.CancelledError(f"the answer cannot be written: {error}") from None


def _parser(parse: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    def parsed(message: bytes) -> Any:
        try:
            return parse(message)
        except DecodeError as error:
            raise BadParameter(f"the message cannot be read: {error}") from None

    return parsed


class Places:
    """A context manager around each call that takes one of ``most`` places.

    Entering raises Overloaded when all are taken.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken = 0

    def __enter__(self) -> None:
        if self._taken >= self._most:
            raise Overloaded(f"{self._most} calls are open, which is the limit", retry_after=1)
        self._taken += 1

    def __exit__(self, *failure: object) -> None:
        self._taken -= 1


class InWork:
    """A context manager around each call that is in work, which counts them."""

    def __init__(self) -> None:
        self._count = 0
        self._none: asyncio.Event | None = None
        """Set when no call is in work. None until somebody waits for that."""

    def __enter__(self) -> None:
        self._count += 1

    def __exit__(self, *failure: object) -> None:
        self._count -= 1
        if not self._count and self._none is not None:
            self._none.set()

    async def none(self) -> None:
        """Wait until no call is in work."""
        if not self._count:
            return
        if self._none is None or self._none.is_set():
            self._none = asyncio.Event()
        await self._none.wait()
