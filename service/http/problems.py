"""Errors as RFC 9457 problem details."""

from __future__ import annotations

import json

from starlette.responses import Response

from service.errors import ZooError

MEDIA_TYPE = "application/problem+json"


def problem(error: ZooError) -> dict[str, object]:
    """The members of the problem: type, title, status, code and detail."""
    return {
        "type": "about:blank",
        "title": error.title,
        "status": error.http_status,
        "code": error.code,
        "detail": error.detail,
    }


def problem_response(error: ZooError, request_id: str) -> Response:
    """The problem as a response; it repeats the request's id, for a report to the operator."""
    content = json.dumps({**problem(error), "request_id": request_id}, ensure_ascii=False)
    headers = {}
    if error.retry_after is not None:
        headers["Retry-After"] = str(error.retry_after)
    return Response(content.encode(), error.http_status, headers, MEDIA_TYPE)
