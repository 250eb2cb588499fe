"""Gives every HTTP request an id, the id of its trace, and a line in the access log."""

from __future__ import annotations

import logging
from time import perf_counter
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.telemetry import trace_context
from service.telemetry.facts import begin
from service.telemetry.logs import ACCESS
from service.telemetry.request_id import request_id_of

access = logging.getLogger(ACCESS)

QUIET = frozenset({"/livez", "/readyz", "/metrics"})
MAX_LOGGED_PATH = 256
MAX_DIGITS = 18
"""A Content-Length of more digits is not one."""


class RequestMiddleware:
    """The outermost middleware.

    It makes ``scope["zoo"]``, to which handlers add facts for the request's log line.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = perf_counter()
        if not scope["path"].startswith("/"):  # RFC 9112, section 3.2.2: a whole URL is allowed
            scope = {**scope, "path": urlsplit(scope["path"]).path or "/"}
        headers = Headers(scope=scope)
        request_id = request_id_of(headers.get("x-request-id", ""))
        facts: dict[str, Any] = {"request_id": request_id}
        trace_id = trace_context.trace_id_of(headers.getlist(trace_context.HEADER))
        if trace_id is not None:
            facts["trace_id"] = trace_id
        scope["zoo"] = facts
        begin(facts)
        status, sent = 0, 0

        async def answer(message: Message) -> None:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-ID"] = request_id
            else:
                sent += len(message.get("body", b""))
            await send(message)

        try:
            await self.app(scope, receive, answer)
        except Exception:
            # Starlette raises again what it has answered with 500 and logged
            if not status:
                raise
        finally:
            level = logging.DEBUG if scope["path"] in QUIET and status < 400 else logging.INFO
            if access.isEnabledFor(level):
                entry = {
                    "method": scope["method"],
                    "path": scope["path"][:MAX_LOGGED_PATH],
                    "status": status,
                    "duration_ms": round(1e3 * (perf_counter() - started), 2),
                    "bytes_in": _length(headers.get("content-length")),
                    "bytes_out": sent,
                    "client": (scope.get("client") or ("",))[0],
                }
                access.log(level, "request", extra=entry | facts)


def _length(announced: str | None) -> int:
    """Return the announced length of a body; 0 where there is none, see `ReceivedBody`."""
    if announced is None or not announced.isdecimal() or len(announced) > MAX_DIGITS:
        return 0
    return int(announced)
