"""Refuses requests by their heads, before a body is read or a route is looked up."""

from __future__ import annotations

from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from service.errors import ZooError
from service.transports.http.problems import UNREAD, answer_error


class Guard:
    """Middleware: lets requests through whose path and headers a check takes."""

    def __init__(self, app: ASGIApp, check: Callable[[str, Headers], None]) -> None:
        """``check`` raises the ZooError of a request that is refused."""
        self._app = app
        self._check = check

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            try:
                self._check(scope["path"], headers)
            except ZooError as error:
                # a client that sends a body may read the answer only after it
                scope[UNREAD] = "transfer-encoding" in headers or "content-length" in headers
                await answer_error(Request(scope), error)(scope, receive, send)
                return
        await self._app(scope, receive, send)
