"""What every HTTP request gets: an id, a line in the access log, and errors as problems."""

from __future__ import annotations

import logging
import re
import uuid
from time import perf_counter
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import BodyTooLarge, Internal, MethodNotAllowed, NotFound, ZooError
from service.http.body import linger
from service.http.problems import problem_response

access = logging.getLogger("zoo.access")
logger = logging.getLogger("zoo.http")

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:+/=@-]{1,128}")
_QUIET = frozenset({"/livez", "/readyz", "/healthz", "/metrics"})
MAX_LOGGED_PATH = 256


class RequestMiddleware:
    """Outermost: nothing inside may answer without an id, or fail without a problem."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = perf_counter()
        headers = Headers(scope=scope)
        request_id = _request_id(headers)
        # what the handlers add to the access log line: model, protocol, pictures, code
        facts: dict[str, Any] = {}
        scope["zoo"] = facts
        status, sent = 0, 0

        async def answer(message: Message) -> None:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-ID"] = request_id
            elif message["type"] == "http.response.body":
                sent += len(message.get("body", b""))
            await send(message)

        try:
            await self.app(scope, receive, answer)
        except ClientDisconnect:
            facts["code"] = "cancelled"
        except Exception as error:
            if status:
                raise
            failure = _as_problem(error, scope, request_id)
            facts["code"] = failure.code
            await _answer_problem(failure, request_id, scope, receive, answer)
        finally:
            path = scope["path"]
            access.log(
                logging.DEBUG if path in _QUIET and status < 400 else logging.INFO,
                "request",
                extra={
                    "request_id": request_id,
                    "method": scope["method"],
                    "path": path[:MAX_LOGGED_PATH],
                    "status": status or 499,
                    "duration_ms": round(1e3 * (perf_counter() - started), 2),
                    "bytes_in": headers.get("content-length"),
                    "bytes_out": sent,
                    "client": (scope.get("client") or ("",))[0],
                    **facts,
                },
            )


def _request_id(headers: Headers) -> str:
    given = headers.get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex


def _as_problem(error: Exception, scope: Scope, request_id: str) -> ZooError:
    if isinstance(error, ZooError):
        return error
    if isinstance(error, HTTPException) and error.status_code == 404:
        return NotFound(f"there is nothing at {scope['path'][:MAX_LOGGED_PATH]}; see /docs")
    if isinstance(error, HTTPException) and error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "other methods")
        return MethodNotAllowed(f"{scope['path'][:MAX_LOGGED_PATH]} takes {allowed}")
    logger.exception("request failed", exc_info=error, extra={"request_id": request_id})
    return Internal(f"the request could not be answered; the log has it as {request_id}")


async def _answer_problem(
    error: ZooError, request_id: str, scope: Scope, receive: Receive, send: Send
) -> None:
    response = problem_response(error, request_id)
    if not isinstance(error, BodyTooLarge):
        await response(scope, receive, send)
        return
    # The client may still be sending. Answer, then let it finish, then close the connection.
    response.headers["Connection"] = "close"
    start = {"type": "http.response.start", "status": response.status_code}
    await send({**start, "headers": response.raw_headers})
    await send({"type": "http.response.body", "body": response.body, "more_body": True})
    if "100-continue" not in Headers(scope=scope).get("expect", "").lower():
        await linger(receive)
    await send({"type": "http.response.body", "body": b""})
