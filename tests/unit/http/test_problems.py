"""Errors as problem documents, with the headers that say what to do about them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from starlette.requests import Request

from service.errors import ALL, Overloaded, Unauthorized, UnsupportedEncoding, ZooError
from service.transports.http.problems import answer_error


def answered(error: ZooError, path: str = "/classify") -> tuple[int, dict[str, str], Any]:
    scope = {"type": "http", "method": "POST", "path": path, "headers": []}
    answer = answer_error(Request({**scope, "zoo": {"request_id": "abc"}}), error)
    return answer.status_code, dict(answer.headers), json.loads(bytes(answer.body))


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.code)
def test_every_error_says_its_code_and_status(kind: type[ZooError]) -> None:
    status, headers, content = answered(kind("what is wrong"))
    assert status == content["status"] == kind.http_status
    assert headers["content-type"] == "application/problem+json"
    assert (content["code"], content["title"]) == (kind.code, kind.title)
    assert (content["detail"], content["request_id"]) == ("what is wrong", "abc")
    assert "retry-after" not in headers
    assert "error" not in content


def test_when_and_how_to_try_again() -> None:
    assert answered(Overloaded("full", retry_after=7))[1]["retry-after"] == "7"
    assert answered(Unauthorized("who?"))[1]["www-authenticate"] == "Bearer"
    assert answered(UnsupportedEncoding("br?"))[1]["accept-encoding"] == "gzip, deflate"
    assert answered(Overloaded("full"), "/v2/models/net/infer")[2]["error"] == "full"
