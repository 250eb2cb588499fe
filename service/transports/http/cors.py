"""Decides which web pages of other origins may call (the Fetch standard's CORS protocol)."""

from __future__ import annotations

import json
from collections.abc import Collection

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp

from service.errors import BadParameter, Forbidden
from service.transports.http.problems import MEDIA_TYPE, problem

_METHODS = ("GET", "HEAD", "POST")
_SENT = (
    "Authorization",
    "Content-Encoding",
    "Inference-Header-Content-Length",
    "X-Request-ID",
    "X-Request-Timeout-Ms",
    "traceparent",
    "tracestate",
)
_SHOWN = ("Inference-Header-Content-Length", "Retry-After", "X-Request-ID")


class Cors(CORSMiddleware):
    """Starlette's middleware without credentials: a page sends a key of its own, never a cookie.

    It answers preflights itself, because they carry no key.
    """

    def __init__(self, app: ASGIApp, origins: Collection[str]) -> None:
        super().__init__(
            app,
            allow_origins=origins,
            allow_methods=_METHODS,
            allow_headers=_SENT,
            expose_headers=_SHOWN,
        )

    def preflight_response(self, request_headers: Headers) -> Response:
        response = super().preflight_response(request_headers)
        if response.status_code == 200:
            return response
        body = json.dumps(problem(BadParameter(bytes(response.body).decode())))
        headers = {name: value for name, value in response.headers.items() if "content" not in name}
        return Response(body, response.status_code, headers, MEDIA_TYPE)


def check_site(headers: Headers, origins: Collection[str]) -> None:
    """Raise Forbidden for a request that a page of another site makes a browser send.

    A browser sends simple requests without a preflight and only hides the answer from the page, so
    a route that changes something must refuse them. Clients other than browsers send neither
    Origin nor Sec-Fetch-Site, and pass.
    """
    origin = headers.get("origin")
    if origin is not None and ("*" in origins or origin in origins):
        return
    own = origin is None or origin.partition("://")[2] == headers.get("host")
    if not own or headers.get("sec-fetch-site") in ("cross-site", "same-site"):
        raise Forbidden("a page of another site asks for this: ZOO_CORS_ORIGINS does not name it")
