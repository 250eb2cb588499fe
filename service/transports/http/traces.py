"""Traces HTTP requests, where tracing is configured."""

from __future__ import annotations

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.telemetry import trace_context
from service.telemetry.spans import Tracer
from service.transports.http.oip import INFER
from service.transports.http.requests import QUIET

_OF_MODEL = "/v2/models/{name}/infer"
_OF_VERSION = "/v2/models/{name}/versions/{version}/infer"


class TraceMiddleware:
    """Makes a span of each request but probes. It stands right inside of `RequestMiddleware`."""

    def __init__(self, app: ASGIApp, tracer: Tracer) -> None:
        self.app = app
        self._tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in QUIET:
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        parents, states = map(headers.getlist, (trace_context.HEADER, trace_context.STATE))
        status = 0

        async def answer(message: Message) -> None:
            nonlocal status
            trace.writing()
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message).raw.extend(
                    (name.encode(), value.encode()) for name, value in trace.response
                )
            await send(message)
            trace.wrote()

        with self._tracer.http(scope, parents, states) as trace:
            scope["zoo"].update(trace.ids)
            try:
                await self.app(scope, trace.reading(receive), answer)
            finally:
                trace.end(status, _route(scope), scope["zoo"].get("code"))


def _route(scope: Scope) -> str | None:
    """Return the template of the route that the path matches, or None."""
    if "route" in scope:
        return str(scope["route"].path)
    if scope["path"] == "/classify":
        return "/classify"
    if scope["method"] == "POST" and (found := INFER.fullmatch(scope["path"])):
        return _OF_VERSION if found["version"] else _OF_MODEL
    return None
