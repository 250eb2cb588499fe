"""Calls from pages of other origins: none by default, those that are named otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.photographs import CHELSEA
from tests.server import Server, serving

ORIGIN = "https://app.example"
KEY = "a-key-of-sixteen-characters"


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(
        tmp_path_factory.mktemp("cors"),
        zoo_default_model="lenet5",
        zoo_load="used",
        zoo_cors_origins=f"{ORIGIN.upper()}, http://localhost:8080",
        zoo_api_keys=KEY,
    ) as running:
        yield running


@pytest.fixture(scope="module")
def anybody(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("anybody")
    quick: dict[str, Any] = {"zoo_default_model": "lenet5", "zoo_load": "used"}
    with serving(folder, zoo_cors_origins="*", **quick) as running:
        yield running


def preflight(origin: str, method: str = "POST", headers: str = "authorization") -> dict[str, str]:
    return {
        "Origin": origin,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": headers,
    }


def test_by_default_no_other_origin_is_let_in(server: Server) -> None:
    refused = server.client.options("/classify", headers=preflight(ORIGIN))
    assert (refused.status_code, refused.json()["code"]) == (405, "method_not_allowed")
    answered = server.client.post(
        "/classify", content=CHELSEA.read_bytes(), headers={"Origin": ORIGIN}
    )
    for reply in (refused, answered):
        assert not [name for name in reply.headers if name.startswith("access-control")]


@pytest.mark.parametrize("path", ["/classify", "/models", "/metrics", "/nothing"])
def test_a_preflight_is_answered_without_a_key(named: Server, path: str) -> None:
    sent = "authorization, content-type, x-request-id, x-request-timeout-ms, traceparent"
    reply = named.client.options(path, headers=preflight(ORIGIN, headers=sent))
    assert reply.status_code == 200
    assert reply.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert "POST" in reply.headers["Access-Control-Allow-Methods"]
    assert "Access-Control-Allow-Credentials" not in reply.headers
    assert reply.headers["X-Request-ID"]


@pytest.mark.parametrize(
    ("headers", "word"),
    [
        (preflight("https://evil.example"), "origin"),
        (preflight(f"{ORIGIN}.evil.example"), "origin"),
        (preflight("null"), "origin"),
        (preflight(ORIGIN, method="DELETE"), "method"),
        (preflight(ORIGIN, headers="x-other"), "headers"),
    ],
)
def test_other_preflights_are_refused(named: Server, headers: dict[str, str], word: str) -> None:
    reply = named.client.options("/classify", headers=headers)
    assert reply.status_code == 400
    assert reply.headers["Content-Type"] == "application/problem+json"
    assert reply.json()["code"] == "bad_parameter"
    assert word in reply.json()["detail"]
    allowed = reply.headers.get("Access-Control-Allow-Origin")
    assert allowed in (None, ORIGIN)
    assert (allowed is None) == (word == "origin")


def test_answers_and_refusals_can_be_read_by_the_page(named: Server) -> None:
    data = CHELSEA.read_bytes()
    for origin in (ORIGIN, "http://localhost:8080"):
        for path, key, status in [
            ("/classify", KEY, 200),
            ("/classify", "wrong", 401),
            ("/classify?top_k=0", KEY, 400),
        ]:
            headers = {"Origin": origin, "Authorization": f"Bearer {key}"}
            reply = named.client.post(path, content=data, headers=headers)
            assert reply.status_code == status
            assert reply.headers["Access-Control-Allow-Origin"] == origin
            shown = reply.headers["Access-Control-Expose-Headers"]
            assert {"X-Request-ID", "Retry-After"} <= set(shown.split(", "))
            assert "Origin" in reply.headers["Vary"]


def test_the_page_of_a_stranger_cannot_read_the_answer(named: Server) -> None:
    headers = {"Origin": "https://evil.example", "Authorization": f"Bearer {KEY}"}
    for reply in (
        named.client.post("/classify", content=CHELSEA.read_bytes(), headers=headers),
        named.client.get("/models", headers=headers),
    ):
        assert reply.status_code == 200
        assert "Access-Control-Allow-Origin" not in reply.headers


def test_every_origin_where_all_are_let_in(anybody: Server) -> None:
    reply = anybody.client.options("/classify", headers=preflight("https://some.example"))
    assert (reply.status_code, reply.headers["Access-Control-Allow-Origin"]) == (200, "*")
    headers = {"Origin": "https://some.example"}
    reply = anybody.client.post("/classify", content=CHELSEA.read_bytes(), headers=headers)
    assert (reply.status_code, reply.headers["Access-Control-Allow-Origin"]) == (200, "*")
    assert "Access-Control-Allow-Credentials" not in reply.headers
