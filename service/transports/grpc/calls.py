"""Gives every call an id, a line in the access log, and a status with details for its error."""

from __future__ import annotations

import asyncio
import logging
import math
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeAlias

import grpc
import grpc.aio

from service.errors import Internal, ZooError, let_go
from service.telemetry import trace_context
from service.telemetry.logs import ACCESS
from service.telemetry.request_id import request_id_of
from service.transports.grpc.status import DETAILS_KEY, code_of, message_of, status_of

if TYPE_CHECKING:
    from service.telemetry import spans

access = logging.getLogger(ACCESS)
logger = logging.getLogger("zoo.grpc")

REQUEST_ID = "x-request-id"
AUTHORIZATION = "authorization"

# in quotes: generic to a type checker alone
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class Call:
    """One call, from its headers to its line in the log."""

    __slots__ = (
        "_client",
        "_code",
        "_context",
        "_level",
        "_logged",
        "_method",
        "_started",
        "_trailing",
        "authorization",
        "facts",
        "ids",
        "trace",
        "uncounted",
    )

    def __init__(
        self, method: str, level: int, context: Context, tracer: spans.Tracer | None
    ) -> None:
        """``method`` and ``level`` are those of the call's line in the log."""
        self._started = perf_counter()
        self._method = method
        self._level = level
        self._context = context
        self._logged = access.isEnabledFor(level)
        self._client = ""
        if self._logged or tracer is not None:
            self._client = context.peer()  # now: asked of a cancelled call, it kills the process
        self._code = "ok"
        self.facts: dict[str, Any] = {}
        """Further members of the call's line in the log, see `service.telemetry.facts`."""
        self.authorization: str | None = None
        """The first metadata of that name."""
        self.ids = self._read(context.invocation_metadata() or ())
        """The `request_id` and, where the call belongs to a trace, the `trace_id`."""
        self._trailing: tuple[tuple[str, str], ...] = ((REQUEST_ID, self.ids["request_id"]),)
        self.uncounted = False
        """Whether the call is to be counted as a request and has not reached the data plane."""
        self.trace: spans.Call | None = None
        if tracer is not None and level > logging.DEBUG:  # probes are not traced
            metadata = context.invocation_metadata() or ()
            self.trace = tracer.call(method, self._client, metadata).__enter__()
            self.ids |= self.trace.ids
            self._trailing += tuple(self.trace.response)
        context.set_trailing_metadata(self._trailing)

    def _read(self, metadata: Any) -> dict[str, str]:
        sent_id = ""
        parents: list[str] = []
        for name, value in metadata:
            if name == REQUEST_ID:
                sent_id = value if isinstance(value, str) else ""
            elif name == trace_context.HEADER:
                parents.append(str(value))
            elif name == AUTHORIZATION and self.authorization is None:
                self.authorization = str(value)
        ids = {"request_id": request_id_of(sent_id)}
        trace_id = trace_context.trace_id_of(parents) if parents else None
        return ids if trace_id is None else {**ids, "trace_id": trace_id}

    async def failed(self, error: BaseException) -> bool:
        """Answer what the call raised by a status. Returns False where the caller must raise it."""
        if isinstance(error, ZooError):
            await self._abort(error)
            return True
        if isinstance(error, asyncio.CancelledError | GeneratorExit):
            self._code = "cancelled"
        elif isinstance(error, grpc.aio.AbortError):
            self._code = "aborted"
        elif isinstance(error, Exception):
            logger.error("call failed", exc_info=error, extra=self.ids)
            let_go(error)
            request_id = self.ids["request_id"]
            detail = f"the request could not be answered; the log has it as {request_id}"
            await self._abort(Internal(detail))
            return True
        return False

    async def _abort(self, error: ZooError) -> None:
        """Answer with an error. The caller must then return and raise nothing.

        grpcio keeps what `abort` raises with the call, and raises it again itself. If it passed
        through our frames, it would keep them too, with the message that they hold.
        """
        self._code = error.code
        details = status_of(error).SerializeToString()
        trailing = (*self._trailing, (DETAILS_KEY, details))
        let_go(error)  # before the answer, which takes as long as the client does not read
        try:
            await self._context.abort(code_of(error), message_of(error), trailing)
        except grpc.aio.AbortError as aborted:
            let_go(aborted)

    def log(self) -> None:
        """Write the call's line in the access log, and end its trace."""
        if self.trace is not None:
            self.trace.end(self._code)
            self.trace.__exit__()
        if self._logged:
            entry = {
                "method": self._method,
                "code": self._code,
                "duration_ms": round(1e3 * (perf_counter() - self._started), 2),
                "client": self._client,
                **self.facts,
                **self.ids,
            }
            access.log(self._level, "call", extra=entry)


def end_of(context: Context) -> float:
    """Return the call's deadline by ``time.perf_counter``; infinity where the client set none."""
    left = context.time_remaining()
    return math.inf if left is None else perf_counter() + left
