"""A receiver of traces over OTLP, by HTTP and by gRPC, as a collector is one."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as messages
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as services

from loadtests.harness.server import free_port


class Span(NamedTuple):
    """A span as it arrived."""

    name: str
    trace: str
    id: str
    parent: str
    start: int
    end: int
    attributes: dict[str, Any]
    links: set[tuple[str, str]]
    events: list[str]
    failed: bool
    state: str
    kind: int
    resource: dict[str, Any]


class Collector(services.TraceServiceServicer):
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spans: list[Span] = []
        self.raw = b""
        self.endpoint = ""

    @property
    def spans(self) -> list[Span]:
        with self._lock:
            return list(self._spans)

    def of(self, trace: str, name: str | None = None) -> list[Span]:
        """The spans of a trace, in the order of their starts."""
        found = [span for span in self.spans if span.trace == trace and name in (None, span.name)]
        return sorted(found, key=lambda span: span.start)

    def Export(self, request: Any, context: Any) -> Any:  # noqa: N802
        with self._lock:
            self.raw += request.SerializeToString()
            for group in request.resource_spans:
                resource = values(group.resource.attributes)
                for scope in group.scope_spans:
                    self._spans += [read(span, resource) for span in scope.spans]
        return messages.ExportTraceServiceResponse()


def read(span: Any, resource: dict[str, Any]) -> Span:
    return Span(
        span.name,
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        span.start_time_unix_nano,
        span.end_time_unix_nano,
        values(span.attributes),
        {(link.trace_id.hex(), link.span_id.hex()) for link in span.links},
        [event.name for event in span.events],
        span.status.code == span.status.STATUS_CODE_ERROR,
        span.trace_state,
        span.kind,
        resource,
    )


def values(attributes: Any) -> dict[str, Any]:
    return {
        each.key: getattr(each.value, str(each.value.WhichOneof("value"))) for each in attributes
    }


@contextmanager
def over_http() -> Iterator[Collector]:
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            assert self.path == "/v1/traces"
            answer = collector.Export(messages.ExportTraceServiceRequest.FromString(body), None)
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.end_headers()
            self.wfile.write(answer.SerializeToString())

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", free_port()), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    collector.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield collector
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def over_grpc() -> Iterator[Collector]:
    collector = Collector()
    server = grpc.server(ThreadPoolExecutor(4))
    services.add_TraceServiceServicer_to_server(collector, server)
    collector.endpoint = f"http://127.0.0.1:{server.add_insecure_port(f'127.0.0.1:{free_port()}')}"
    server.start()
    try:
        yield collector
    finally:
        server.stop(None).wait()
