"""Which requests have a line in the log: all but probes that succeed, which come every second."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from service.telemetry.logs import ACCESS
from service.transports.http.requests import RequestMiddleware


class Lines(logging.Handler):
    """Keeps the records of the access log."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.fixture
def lines() -> Iterator[Lines]:
    logger, handler = logging.getLogger(ACCESS), Lines()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(level)


async def request(path: str, status: int, **headers: str) -> dict[str, str]:
    """The headers of the answer of an app that answers so."""
    told: dict[str, str] = {}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b"12345"})

    async def send(message: Any) -> None:
        told.update({k.decode(): v.decode() for k, v in message.get("headers", ())})

    async def receive() -> Any:
        raise AssertionError("nobody reads")

    given = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "headers": given,
        "client": ("1.2.3.4", 5),
    }
    await RequestMiddleware(app)(scope, receive, send)
    return told


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("/livez", 200, False),
        ("/readyz", 200, False),
        ("/metrics", 200, False),
        ("/readyz", 503, True),
        ("/metrics", 401, True),
        ("/models", 200, True),
        ("/readyz/more", 404, True),
    ],
)
async def test_who_has_a_line(lines: Lines, path: str, status: int, said: bool) -> None:
    await request(path, status)
    assert [(record.path, record.status) for record in lines.records] == (  # type: ignore[attr-defined]
        [(path, status)] if said else []
    )


async def test_what_a_line_says(lines: Lines) -> None:
    told = await request("/classify" + "x" * 1000, 200, x_request_id="mine", content_length="77")
    assert told["x-request-id"] == "mine"
    (record,) = lines.records
    facts = vars(record)
    assert facts["path"] == ("/classify" + "x" * 1000)[:256]
    assert (facts["bytes_in"], facts["bytes_out"]) == (77, 5)
    assert (facts["client"], facts["method"]) == ("1.2.3.4", "GET")
    assert facts["request_id"] == "mine"
    assert facts["duration_ms"] >= 0
    await request("/classify", 200, content_length="9" * 30)
    assert vars(lines.records[1])["bytes_in"] == 0
