"""Makes the spans of a request or call and sends them to a collector.

Below a request's span there is one for the use case (`classify`, `infer`), and below that one for
each stage. A batch has a span with links to all requests that it computes for, and the span
`inference` of each of these requests links to the batch.

Names and attributes follow OpenTelemetry's semantic conventions where there are any; ours begin
with `zoo.`. Spans hold nothing of a picture. Times are of ``time.perf_counter`` unless a name says
otherwise.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from contextvars import ContextVar
from importlib import import_module
from time import perf_counter, perf_counter_ns, time_ns
from typing import Any, TypeVar

from opentelemetry import trace as api
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    ConsoleSpanExporter,
    SimpleSpanProcessor,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from service import __version__
from service.errors import ALL, ServerError, ZooError
from service.telemetry import trace_context

SERVICE_NAME = "imagenet-zoo"
RESPONSE = "traceresponse"
"""The header, or metadata, that tells a caller which span answered (W3C Trace Context, level 3)."""
MOST_TEXT = 256
"""The most characters that a span keeps of a text which a client chose, or is told."""
_PROPAGATOR = TraceContextTextMapPropagator()
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"})
_GRPC_STATUS = {error.code: error.grpc_status for error in ALL} | {
    "ok": "OK",
    "cancelled": "CANCELLED",
    "aborted": "UNKNOWN",
}
_GRPC_FAULTS = frozenset(
    ("UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS")
)
Attributes = Mapping[str, Any]
Self = TypeVar("Self", bound="Trace")


class Tracer:
    """Makes traces, and sends those that are sampled to a collector, in a thread of its own."""

    def __init__(self, exporter: str | None, current: ContextVar[Trace | None]) -> None:
        """``exporter`` names the module of an OTLP exporter; None sends spans to the console.
        ``current`` holds the trace while a request is worked for. OpenTelemetry reads its other
        options from its own variables.
        """
        self.current = current
        resource = Resource.create({"service.version": __version__, "process.pid": os.getpid()})
        if str(resource.attributes.get("service.name", "")).startswith("unknown_service"):
            resource = resource.merge(Resource({"service.name": SERVICE_NAME}))
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        if exporter is None:
            self._provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter()))
        else:
            sender = import_module(exporter).OTLPSpanExporter()
            self._provider.add_span_processor(BatchSpanProcessor(sender))
        self.spans = self._provider.get_tracer("service", __version__)

    def close(self) -> None:
        """Export the spans that are left."""
        self._provider.shutdown()

    def http(self, scope: Mapping[str, Any], parents: Sequence[str], states: Sequence[str]) -> Http:
        """Begin the trace of an HTTP request, given by its ASGI scope.

        ``parents`` and ``states`` are the values of its headers `traceparent` and `tracestate`.
        """
        method = scope["method"] if scope["method"] in _METHODS else "_OTHER"
        attributes = {
            "http.request.method": method,
            "url.scheme": scope.get("scheme", "http"),
            "url.path": scope["path"][:MOST_TEXT],
            "network.protocol.version": scope.get("http_version", "1.1"),
            **_client((scope.get("client") or ("",))[0]),
        }
        if server := scope.get("server"):
            attributes |= {"server.address": server[0], "server.port": server[1] or 0}
        return Http(self, method, attributes, parents, states)

    def call(self, method: str, client: str, metadata: Iterable[tuple[str, Any]]) -> Call:
        """Begin the trace of a gRPC call to ``method``, ``/package.Service/Method``.

        ``client`` is the peer's address.
        """
        texts = [(name, value) for name, value in metadata if isinstance(value, str)]
        parents = [value for name, value in texts if name == trace_context.HEADER]
        states = [value for name, value in texts if name == trace_context.STATE]
        name = method.lstrip("/")[:MOST_TEXT]
        attributes = {"rpc.system.name": "grpc", "rpc.method": name, **_client(client)}
        return Call(self, name, attributes, parents, states)


class Trace:
    """The trace of one request. The task that answers it does so in a ``with`` block of this."""

    def __init__(
        self,
        tracer: Tracer,
        name: str,
        attributes: Attributes,
        parents: Sequence[str],
        states: Sequence[str],
    ) -> None:
        self._begun = perf_counter()
        self._offset = time_ns() - perf_counter_ns()
        self._tracer = tracer.spans
        self._current = tracer.current
        carrier = {}
        if trace_context.trace_id_of(parents) is not None:
            carrier = {trace_context.HEADER: parents[0], trace_context.STATE: ",".join(states)}
        self.span = self._tracer.start_span(
            name,
            _PROPAGATOR.extract(carrier, Context()),
            api.SpanKind.SERVER,
            dict(attributes),
            start_time=time_ns(),
        )

    def __enter__(self: Self) -> Self:
        self._token = self._current.set(self if self.span.is_recording() else None)
        return self

    def __exit__(self, *failure: object) -> None:
        with suppress(ValueError):  # another task closed the stream: this one's context is over
            self._current.reset(self._token)

    @property
    def ids(self) -> dict[str, str]:
        """The fields of the request's log line: `trace_id` and `span_id`, in hex."""
        own = self.span.get_span_context()
        return {"trace_id": f"{own.trace_id:032x}", "span_id": f"{own.span_id:016x}"}

    @property
    def response(self) -> list[tuple[str, str]]:
        """The headers for the caller: the answering span, and the trace's state if it has one."""
        own = self.span.get_span_context()
        ids = f"00-{own.trace_id:032x}-{own.span_id:016x}-{int(own.trace_flags):02x}"
        state = own.trace_state.to_header()
        return [(RESPONSE, ids), *([(trace_context.STATE, state)] if state else [])]

    def use_case(self, name: str, started: float) -> UseCase:
        """Begin a span below the request's, for a use case that started at ``started``."""
        return UseCase(self, name, started)

    def child(
        self,
        name: str,
        start: float,
        end: float,
        *,
        parent: api.Span | None = None,
        attributes: Attributes | None = None,
        links: Sequence[api.SpanContext] = (),
        error: BaseException | None = None,
    ) -> api.SpanContext:
        """Record a span that lasted from ``start`` to ``end``, below the request's or ``parent``.

        An ``error`` marks it as failed. Returns what others need to link to it.
        """
        span = self.begin(name, start, parent=parent, attributes=attributes, links=links)
        if error is not None:
            fail(span, error, self.at(end))
        span.end(self.at(end))
        return span.get_span_context()

    def begin(
        self,
        name: str,
        start: float,
        *,
        parent: api.Span | None = None,
        attributes: Attributes | None = None,
        links: Sequence[api.SpanContext] = (),
    ) -> api.Span:
        """Begin a span at ``start``, below the request's or ``parent``; the caller ends it."""
        return self._tracer.start_span(
            name,
            api.set_span_in_context(parent or self.span, Context()),
            attributes=dict(attributes or {}),
            links=[api.Link(link) for link in links],
            start_time=self.at(start),
        )

    def at(self, seconds: float) -> int:
        """Turn seconds of ``time.perf_counter`` into nanoseconds since 1970."""
        return int(1e9 * seconds) + self._offset


class Http(Trace):
    """The trace of an HTTP request, which also times the reading of the body and the writing."""

    _read_from = _read_to = _write_from = _write_to = 0.0

    def reading(self, receive: Any) -> Any:
        """Return ASGI's ``receive`` with the body's first and last message timed."""

        async def watched() -> Any:
            self._read_from = self._read_from or perf_counter()
            message = await receive()
            if message["type"] == "http.request" and not message.get("more_body"):
                self._read_to = perf_counter()
            return message

        return watched

    def writing(self) -> None:
        """Note that a part of the answer is about to be sent."""
        self._write_from = self._write_from or perf_counter()

    def wrote(self) -> None:
        """Note that a part of the answer was sent."""
        self._write_to = perf_counter()

    def end(self, status: int, route: str | None, code: str | None) -> None:
        """End the request's span, and record `read` and `write`.

        ``status`` is the HTTP status, 0 where no answer was sent; ``route`` the path's template,
        None for an unknown path; ``code`` that of `service.errors`, `ok` or None.
        """
        if not self.span.is_recording():
            return
        if self._read_from:
            self.child("read", self._read_from, self._read_to or perf_counter())
        if self._write_to:
            self.child("write", self._write_from, self._write_to)
        span = self.span
        if route is not None:
            span.update_name(f"{span.attributes['http.request.method']} {route}")  # type: ignore[attr-defined]
            span.set_attribute("http.route", route)
        if status:
            span.set_attribute("http.response.status_code", status)
        _close(span, code, fault=status >= 500)


class Call(Trace):
    """The trace of a gRPC call. It times no writing: gRPC writes the answer afterwards."""

    def read(self) -> None:
        """Record `read`: the call's message has come."""
        if self.span.is_recording():
            self.child("read", self._begun, perf_counter())

    def end(self, code: str) -> None:
        """End the call's span; ``code`` is `ok`, `cancelled`, `aborted` or one of `errors`."""
        if self.span.is_recording():
            status = _GRPC_STATUS.get(code, "UNKNOWN")
            self.span.set_attribute("rpc.response.status_code", status)
            if code == "not_found":  # no such method: a name that a client made up
                self.span.update_name("_OTHER")
                self.span.set_attribute("rpc.method", "_OTHER")
            _close(self.span, code, fault=status in _GRPC_FAULTS)


class UseCase:
    """The span of what the data plane does for one request, `classify` or `infer`."""

    def __init__(self, trace: Trace, name: str, started: float) -> None:
        self._trace = trace
        self._span = trace.begin(name, started)

    def end(self, error: BaseException | None, code: str, attributes: Mapping[str, Any]) -> None:
        """End the span; ``code`` is the metrics' label. An ``error`` marks the span as failed."""
        span = self._span
        span.set_attributes({"zoo.code": code, **attributes})
        if error is not None:
            fail(span, error, None)
        span.end()

    def stage(
        self,
        name: str,
        start: float,
        end: float,
        *,
        error: BaseException | None = None,
        **more: Any,
    ) -> None:
        """Record a stage that lasted from ``start`` to ``end``.

        ``more`` becomes attributes, with `zoo.` before each name.
        """
        attributes = {f"zoo.{key}": value for key, value in more.items()}
        self._trace.child(name, start, end, parent=self._span, attributes=attributes, error=error)

    def crops(self, model: str) -> Crops:
        """Return the observer of crops that are about to be enqueued at ``model``'s batcher."""
        return Crops(self._trace, self._span, model)


class Crops:
    """Records what becomes of one request's crops in the batcher; called from any thread."""

    def __init__(self, trace: Trace, span: api.Span, model: str) -> None:
        self._trace = trace
        self._span = span
        self._model = model
        self._enqueued = perf_counter()
        self._started = 0.0
        self._batches: list[api.SpanContext] = []

    def batch(
        self, all_of_it: Sequence[object], crops: int, start: float, end: float, failed: bool
    ) -> None:
        """Record a batch of ``crops`` crops in this trace, linked to all that it computed for.

        ``all_of_it`` are the observers of every request with crops in the batch; this one is the
        first of them.
        """
        own = [watch for watch in all_of_it if isinstance(watch, Crops)]
        made = self._trace.child(
            "batch",
            start,
            end,
            parent=self._span,
            attributes={
                "zoo.model.name": self._model,
                "zoo.batch.crops": crops,
                "zoo.batch.requests": len(own),
                **({"error.type": "internal"} if failed else {}),
            },
            links=[watch._span.get_span_context() for watch in own],
        )
        for watch in own:
            watch._started = watch._started or start
            watch._batches.append(made)

    def done(self, error: BaseException | None = None) -> None:
        """Record `queue` and `inference`: the crops are computed, or given up for ``error``."""
        now = perf_counter()
        started = self._started or now
        tell = self._trace.child
        attributes = {"zoo.model.name": self._model, "zoo.queue": "device"}
        lost = error if not self._started else None
        tell("queue", self._enqueued, started, parent=self._span, attributes=attributes, error=lost)
        if self._started:
            attributes = {"zoo.model.name": self._model}
            links = self._batches
            tell(
                "inference",
                started,
                now,
                parent=self._span,
                attributes=attributes,
                links=links,
                error=error,
            )


def fail(span: api.Span, error: BaseException, at: int | None) -> None:
    """Add an error to a span, ``at`` nanoseconds since 1970 or now.

    Only errors that are ours, and not the client's, set the span's status. The text is kept of a
    ZooError alone, since that one is written for clients.
    """
    code = error.code if isinstance(error, ZooError) else type(error).__name__
    text = error.detail[:MOST_TEXT] if isinstance(error, ZooError) else ""
    span.add_event(
        "exception", {"exception.type": type(error).__name__, "exception.message": text}, at
    )
    span.set_attribute("error.type", code)
    if isinstance(error, ServerError) or not isinstance(error, ZooError):
        span.set_status(api.Status(api.StatusCode.ERROR, text or code))


def _close(span: api.Span, code: str | None, *, fault: bool) -> None:
    if code not in (None, "ok"):
        span.set_attribute("error.type", str(code))
    if fault:
        span.set_status(api.Status(api.StatusCode.ERROR, code or ""))
    span.end()


def _client(address: str) -> dict[str, str]:
    return {"client.address": address[:MOST_TEXT]} if address else {}
