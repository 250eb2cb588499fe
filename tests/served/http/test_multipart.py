"""Forms as RFC 2046 and RFC 7578 allow them, and as clients write them."""

from __future__ import annotations

import pytest

from service.errors import BadParameter
from service.transports.http.multipart import (
    MAX_FALSE_BOUNDARIES,
    MAX_PART_HEAD_BYTES,
    MAX_PART_PARAMETERS,
    pictures_of,
)
from tests.harness.forms import HEAD, form
from tests.photographs import CHELSEA, COFFEE, PHOTOGRAPHS
from tests.server import Server

TYPE = {"Content-Type": "multipart/form-data; boundary=x"}


BAD = {
    "nothing": (b"", "empty"),
    "no parts": (b"--x--\r\n", "no part named 'image'"),
    "no end": (form(b"a", end=b""), "closing boundary is missing"),
    "an end that is none": (form(b"a", end=b"--x--y\r\n"), "closing boundary is missing"),
    "another boundary": (form(b"a").replace(b"--x", b"--y"), "'x'; it begins with 'y'"),
    "one hyphen": (form(b"a").replace(b"--x", b"-x"), "no line with the boundary"),
    "line feeds alone": (form(b"a").replace(b"\r\n", b"\n"), "no line with the boundary"),
    "no head": (b"--x\r\n\r\na\r\n--x--", "no Content-Disposition"),
    "no line": (b"--x\r\n--x--", "no empty line"),
    "a head without an end": (b"--x\r\n" + HEAD + b"\r\n--x--", "no empty line"),
    "no header": (form(b"a", head=HEAD + b"\r\nhello"), "without a name"),
    "a long head": (form(b"a", head=HEAD + b"\r\nA: " + b"b" * MAX_PART_HEAD_BYTES), "bytes of"),
    "many parameters": (form(b"a", head=HEAD + b";a" * MAX_PART_PARAMETERS), "parameters"),
    "an index of letters": (form(b"a", head=HEAD.replace(b"image", b"image[a]")), "image[a]"),
    "a parameter": (form(b"5", head=HEAD.replace(b"image", b"top_k")), "query string"),
    "its own boundary": (form(b"\r\n--xy" * (MAX_FALSE_BOUNDARIES + 1)), "its own boundary"),
}


@pytest.mark.parametrize("kind", BAD)
def test_broken_forms_are_told_in_our_words(server: Server, kind: str) -> None:
    body, words = BAD[kind]
    with pytest.raises(BadParameter) as refused:
        pictures_of(body, b"x", 5)
    assert words in refused.value.detail
    reply = server.client.post("/classify", content=body, headers=TYPE)
    assert (reply.status_code, reply.json()["code"]) == (400, "bad_parameter")
    assert reply.json()["detail"] == refused.value.detail
    assert reply.json()["request_id"] == reply.headers["X-Request-ID"]


@pytest.mark.parametrize("name", ["image", "image[]", "image[0]"])
def test_lists_of_pictures_by_any_name(server: Server, name: str) -> None:
    names = [name, name.replace("0", "1")]
    pictures = (CHELSEA.read_bytes(), COFFEE.read_bytes())
    files = list(zip(names, pictures, strict=True))
    results = server.client.post("/classify", files=files).json()["results"]
    for result, path in zip(results, (CHELSEA, COFFEE), strict=True):
        assert result["predictions"][0]["label"] in PHOTOGRAPHS[path]


def test_a_form_with_all_that_is_allowed_around_its_parts(server: Server) -> None:
    data = COFFEE.read_bytes()
    body = form(data, line=b"--x  \r\n", before=b"preamble\r\n", end=b"--x-- \r\nepilogue")
    reply = server.client.post("/classify", content=body, headers=TYPE)
    assert reply.json()["predictions"] == server.classify(data).json()["predictions"]
