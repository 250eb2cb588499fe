"""Answers errors as RFC 9457 problem details."""

from __future__ import annotations

import json
import logging
from typing import Annotated, NotRequired

from pydantic import WithJsonSchema
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from typing_extensions import TypeAliasType, TypedDict

from service.errors import (
    ALL,
    Internal,
    MethodNotAllowed,
    NotFound,
    Unauthorized,
    UnsupportedEncoding,
    ZooError,
)
from service.transports.http.body import linger
from service.transports.http.encoding import ACCEPTED

logger = logging.getLogger("zoo.http")

MEDIA_TYPE = "application/problem+json"
UNREAD = "zoo.unread"
"""Key of the ASGI scope: whether the body has not been read to its end."""
CLIENT_CLOSED_REQUEST = 499
"""nginx' status for a client that has gone; it only stands in the log."""


ErrorCode = TypeAliasType(
    "ErrorCode",
    Annotated[str, WithJsonSchema({"type": "string", "enum": [error.code for error in ALL]})],
)


class PictureProblem(TypedDict):
    """What is wrong with one picture of a form: problem details (RFC 9457) without an id."""

    type: str
    title: str
    status: int
    code: ErrorCode
    detail: str


class Problem(PictureProblem):
    """Problem details (RFC 9457), with the request's id for a report to the operator."""

    request_id: str


class OipProblem(Problem):
    """A problem as everywhere. `error` repeats the detail, for clients of the protocol; it is
    missing only where the head of the request is refused.
    """

    error: NotRequired[str]


def problem(error: ZooError) -> PictureProblem:
    """Return the members that every problem document of this error has."""
    return {
        "type": "about:blank",
        "title": error.title,
        "status": error.http_status,
        "code": error.code,
        "detail": error.detail,
    }


def answer_error(request: Request, error: Exception) -> Response:
    """Make a problem document of any error that a route raised; Starlette's exception handler.

    The document repeats the request's id, for a report to the operator.
    """
    facts = request.scope["zoo"]
    if isinstance(error, ClientDisconnect):
        facts["code"] = "cancelled"
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    failure = _as_zoo_error(request, error)
    facts["code"] = failure.code
    content: Problem = {**problem(failure), "request_id": facts["request_id"]}
    if request.scope["path"].startswith("/v2"):
        content = OipProblem(**content, error=failure.detail)
    text = json.dumps(content, ensure_ascii=False).encode("utf-8", "replace")
    response = LingeringResponse if request.scope.get(UNREAD) else Response
    answer = response(text, failure.http_status, media_type=MEDIA_TYPE)
    if failure.retry_after is not None:
        answer.headers["Retry-After"] = str(failure.retry_after)
    if isinstance(failure, Unauthorized):
        answer.headers["WWW-Authenticate"] = "Bearer"
    if isinstance(failure, UnsupportedEncoding):
        answer.headers["Accept-Encoding"] = ACCEPTED
    if isinstance(error, HTTPException) and error.headers:
        answer.headers.update(error.headers)
    return answer


def _as_zoo_error(request: Request, error: Exception) -> ZooError:
    if isinstance(error, ZooError):
        return error
    path = request.scope["path"][:256]
    if isinstance(error, HTTPException) and error.status_code == 404:
        return NotFound(f"there is nothing at {path}; see /docs")
    if isinstance(error, HTTPException) and error.status_code == 405:
        return MethodNotAllowed(f"{path} takes {(error.headers or {}).get('Allow', 'others')}")
    facts = request.scope["zoo"]
    request_id = facts["request_id"]
    ids = {name: facts[name] for name in ("request_id", "trace_id") if name in facts}
    logger.error("request failed", exc_info=error, extra=ids)
    return Internal(f"the request could not be answered; the log has it as {request_id}")


class LingeringResponse(Response):
    """An answer to a client that may still be sending its body.

    The answer is sent whole, then what arrives is discarded for `LINGER_SECONDS`, then the
    connection is closed. A client that reads only after it has sent everything would otherwise see
    a reset connection.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.headers["Connection"] = "close"
        start = {"type": "http.response.start", "status": self.status_code}
        await send({**start, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        if "100-continue" not in Headers(scope=scope).get("expect", "").lower():
            await linger(receive)
        await send({"type": "http.response.body", "body": b""})
