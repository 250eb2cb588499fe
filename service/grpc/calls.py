"""What every call gets: a check of its key, an id, a status for its error, a line in the log."""

from __future__ import annotations

import asyncio
import inspect
import logging
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext
from functools import partial
from time import perf_counter
from typing import Any, TypeAlias, cast

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from service import tracecontext
from service.access import Access
from service.dataplane import DataPlane
from service.errors import BadParameter, Internal, ZooError
from service.grpc.access import refusal
from service.grpc.status import DETAILS_KEY, code_of, message_of, status_of
from service.ids import request_id_of

access = logging.getLogger("zoo.access")
logger = logging.getLogger("zoo.grpc")

REQUEST_ID = "x-request-id"
MAX_LOGGED_METHOD = 256
_QUIET = ("/grpc.health.v1.", "/grpc.reflection.")

# in quotes: generic to a type checker alone
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Wraps the handler of every method, once; lets nobody reach it without the key it needs."""

    def __init__(self, access: Access | None) -> None:
        self._access = access
        self._wrapped: dict[str, Handler] = {}
        self._accepted = _Accepted()

    async def idle(self) -> None:
        """Wait until every call whose message was read is answered; probes are not waited for."""
        await self._accepted.none()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        if self._access is not None:
            error = refusal(self._access, handler_call_details)
            if error is not None:
                return _refused(handler_call_details.method[:MAX_LOGGED_METHOD], error)
        method = handler_call_details.method
        found = self._wrapped.get(method)
        if found is None:
            found = await continuation(handler_call_details)
            if found is not None:  # None: no such method, which grpc itself answers
                found = self._wrapped[method] = _wrap(method, found, self._accepted)
        return found


class _Accepted:
    """``with`` this around each call that is in work."""

    def __init__(self) -> None:
        self._count = 0
        self._none = asyncio.Event()
        self._none.set()

    def __enter__(self) -> None:
        self._count += 1
        self._none.clear()

    def __exit__(self, *failure: object) -> None:
        self._count -= 1
        if not self._count:
            self._none.set()

    async def none(self) -> None:
        """Wait until there is no such call."""
        await self._none.wait()


def _wrap(method: str, handler: Handler, accepted: _Accepted) -> Handler:
    """The same method; a message is read here, so that one that is none can be refused."""
    kinds: dict[tuple[bool, bool], tuple[str, Any]] = {
        (False, False): ("unary_unary", grpc.unary_unary_rpc_method_handler),
        (False, True): ("unary_stream", grpc.unary_stream_rpc_method_handler),
        (True, False): ("stream_unary", grpc.stream_unary_rpc_method_handler),
        (True, True): ("stream_stream", grpc.stream_stream_rpc_method_handler),
    }
    many = bool(handler.request_streaming)
    kind, make = kinds[many, bool(handler.response_streaming)]
    inner = getattr(handler, kind)
    parse = _parser(handler.request_deserializer)
    read = partial(_each, parse) if many else parse
    if inspect.isasyncgenfunction(inner):
        behaviour = _generator(method, inner, read, accepted)
    else:
        behaviour = _coroutine(method, inner, read, accepted)
    return cast(Handler, make(behaviour, None, handler.response_serializer))


def _refused(method: str, error: ZooError) -> Handler:
    """A handler that reads no message, so that the refusal need not wait for one."""

    async def call(_: AsyncIterator[bytes], context: Context) -> None:
        async with _told(method, context):
            raise error

    return grpc.stream_stream_rpc_method_handler(call)


def _parser(parse: Callable[[bytes], Any] | None) -> Callable[[bytes], Any]:
    def checked(message: bytes) -> Any:
        try:
            return message if parse is None else parse(message)
        except DecodeError as error:
            raise BadParameter(f"the message cannot be read: {error}") from None

    return checked


async def _each(
    parse: Callable[[bytes], Any], messages: AsyncIterator[bytes]
) -> AsyncIterator[Any]:
    async for message in messages:
        yield parse(message)


def _coroutine(
    method: str,
    inner: Callable[[Any, Context], Awaitable[Any]],
    read: Callable[[Any], Any],
    accepted: _Accepted,
) -> Any:
    counted = nullcontext() if method.startswith(_QUIET) else accepted

    async def call(given: Any, context: Context) -> Any:
        with counted:
            async with _told(method, context):
                return await inner(read(given), context)

    return call


def _generator(
    method: str,
    inner: Callable[[Any, Context], AsyncIterator[Any]],
    read: Callable[[Any], Any],
    accepted: _Accepted,
) -> Any:
    counted = nullcontext() if method.startswith(_QUIET) else accepted

    async def call(given: Any, context: Context) -> AsyncIterator[Any]:
        with counted:
            async with _told(method, context):
                async for answer in inner(read(given), context):
                    yield answer

    return call


@asynccontextmanager
async def _told(method: str, context: Context) -> AsyncIterator[None]:
    """Around one call: an error becomes its status, and the log hears of it."""
    started = perf_counter()
    client = context.peer()  # not later: once a call was cancelled, to ask kills the process
    ids = _ids(context)
    request_id = ids["request_id"]
    context.set_trailing_metadata(((REQUEST_ID, request_id),))
    code = "ok"
    try:
        yield
    except ZooError as error:
        code = error.code
        await _abort(context, error, request_id)
    except (asyncio.CancelledError, GeneratorExit):
        code = "cancelled"
        raise
    except grpc.aio.AbortError:
        code = "aborted"
        raise
    except Exception as fault:
        code = Internal.code
        logger.error("call failed", exc_info=fault, extra=ids)
        detail = f"the request could not be answered; the log has it as {request_id}"
        await _abort(context, Internal(detail), request_id)
    finally:
        level = logging.DEBUG if method.startswith(_QUIET) else logging.INFO
        if access.isEnabledFor(level):
            entry = {
                "method": method,
                "code": code,
                "duration_ms": round(1e3 * (perf_counter() - started), 2),
                "client": client,
                **ids,
            }
            access.log(level, "call", extra=entry)


@contextmanager
def counted(message: Any, plane: DataPlane, transport: str) -> Iterator[None]:
    """``with`` this while a message is held, whose bytes the plane counts. Raises Overloaded."""
    size = message.ByteSize()
    try:
        plane.bodies.take(size)
    except ZooError as error:
        plane.refused(transport, error.code)
        raise
    try:
        yield
    finally:
        plane.bodies.give(size)


def end_of(context: Context) -> float:
    """When the caller's patience ends, by ``time.perf_counter``; infinity where it says nothing.

    To be asked for at the start of a call, as the peer.
    """
    left = context.time_remaining()
    return math.inf if left is None else perf_counter() + left


def _ids(context: Context) -> dict[str, str]:
    """The `request_id` and, where the caller belongs to a trace, the `trace_id`."""
    metadata = context.invocation_metadata() or ()
    given = dict(metadata).get(REQUEST_ID, "")
    ids = {"request_id": request_id_of(given if isinstance(given, str) else "")}
    parents = [str(value) for name, value in metadata if name == tracecontext.HEADER]
    trace_id = tracecontext.trace_id_of(parents)
    return ids if trace_id is None else {**ids, "trace_id": trace_id}


async def _abort(context: Context, error: ZooError, request_id: str) -> None:
    details = status_of(error).SerializeToString()
    trailing = ((REQUEST_ID, request_id), (DETAILS_KEY, details))
    # the frames of a traceback hold the pictures, and the error: a circle, kept for long
    error.__traceback__ = error.__cause__ = error.__context__ = None
    await context.abort(code_of(error), message_of(error), trailing)
