"""Forms as RFC 2046 and RFC 7578 allow them, and as clients write them."""

from __future__ import annotations

import re
import time

import pytest

from service.errors import BadParameter, BodyTooLarge
from service.transports.http.multipart import (
    MAX_FALSE_BOUNDARIES,
    MAX_PART_HEAD_BYTES,
    MAX_PART_PARAMETERS,
    form_boundary,
    pictures_of,
)
from tests.photographs import CHELSEA, COFFEE, PHOTOGRAPHS
from tests.server import Server

HEAD = b'Content-Disposition: form-data; name="image"; filename="a.jpg"'
TYPE = {"Content-Type": "multipart/form-data; boundary=x"}


def form(
    *parts: bytes,
    head: bytes = HEAD,
    line: bytes = b"--x\r\n",
    end: bytes = b"--x--\r\n",
    before: bytes = b"",
) -> bytes:
    return before + b"".join(line + head + b"\r\n\r\n" + part + b"\r\n" for part in parts) + end


GOOD = {
    "plain": form(b"a", b"bc"),
    "a preamble": form(b"a", b"bc", before=b"This is a multipart message.\r\n"),
    "a preamble of hyphens": form(b"a", b"bc", before=b"--\r\n--y\r\nx--x\r\n--xy\r\n"),
    "empty lines before": form(b"a", b"bc", before=b"\r\n\r\n"),
    "an epilogue": form(b"a", b"bc") + b"The end.\r\n--x\r\nnothing",
    "no last line break": form(b"a", b"bc", end=b"--x--"),
    "padding": form(b"a", b"bc", line=b"--x \t \r\n", end=b"--x-- \t\r\n"),
    "other headers": form(b"a", b"bc", head=b"Content-Type: image/png\r\nX-Y:z\r\n" + HEAD),
    "a folded header": form(b"a", b"bc", head=HEAD.replace(b"; name", b";\r\n\tname")),
    "no quotes": form(b"a", b"bc", head=b"content-disposition:form-data; name=image"),
    "PHP": form(b"a", b"bc", head=HEAD.replace(b"image", b"image[]")),
    "axios": form(b"a", b"bc", head=HEAD.replace(b"image", b"image[0]")),
}


@pytest.mark.parametrize("kind", GOOD)
def test_forms(kind: str) -> None:
    assert pictures_of(GOOD[kind], b"x", 2) == [b"a", b"bc"]


def test_parts_keep_every_byte() -> None:
    for part in (
        b"",
        b"\r\n",
        b"\r\n--",
        b"\r\n--xy\r\n",
        b"--x-\r\n",
        b"\r\n\r\n\r\n",
        b"\r\r\n--x\n",
    ):
        assert pictures_of(form(part, b"y", before=b"z\r\n"), b"x", 2) == [part, b"y"]
    assert pictures_of(b"--x\r\n" + HEAD + b"\r\n\r\n--x--", b"x", 1) == [b""]


def test_nothing_is_copied() -> None:
    body = form(b"abc")
    assert pictures_of(body, b"x", 1)[0].obj is body


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


def test_spaces_behind_boundaries_are_read_once() -> None:
    spaces = b" " * 300_000
    body = form(*[b"a\r\n--x" + spaces + b"b"] * MAX_FALSE_BOUNDARIES)
    began = time.process_time()
    for _ in range(MAX_FALSE_BOUNDARIES):
        assert re.fullmatch(rb"[ \t]*+", spaces)
    once, began = time.process_time() - began, time.process_time()
    assert len(pictures_of(body, b"x", MAX_FALSE_BOUNDARIES)) == MAX_FALSE_BOUNDARIES
    assert time.process_time() - began < 4 * once


def test_a_file_s_name_of_many_entities() -> None:
    """As browsers write what a page's encoding lacks."""
    head = b'Content-Disposition: form-data; name="image"; filename="' + b"&#22270;" * 250 + b'"'
    assert len(pictures_of(form(b"a", head=head), b"x", 1)) == 1


def test_the_limit_of_parts() -> None:
    assert len(pictures_of(form(*[b"a"] * 5), b"x", 5)) == 5
    with pytest.raises(BodyTooLarge):
        pictures_of(form(*[b"a"] * 6, end=b""), b"x", 5)


@pytest.mark.parametrize(
    "body",
    [
        b"\r\n--x" + b" " * 30_000_000,
        b"\r\n--" * 7_000_000,
        b"\r\n--x\r\n" * 4_000_000,
        b"\r\n--xy" * 5_000_000,
        b"\r\n--x\r\nA" + b"\r\n " * 10_000_000,
        b"--x\r\n" + b"A:" * 15_000_000,
    ],
    ids=["padding", "hyphens", "parts", "false", "folds", "colons"],
)
def test_the_work_is_that_of_the_bytes(body: bytes) -> None:
    started = time.process_time()
    with pytest.raises((BadParameter, BodyTooLarge)):
        pictures_of(body, b"x", 32)
    assert time.process_time() - started < 2  # a loop over such a body's bytes takes more


def test_types() -> None:
    assert form_boundary("multipart/form-data; boundary=x") == b"x"
    assert form_boundary('Multipart/Form-Data; charset=utf-8; boundary="a b"') == b"a b"
    for other in ("", "image/jpeg", "multipart/mixed; boundary=x", "multipart/form-data-2"):
        assert form_boundary(other) is None
    for bad in ("multipart/form-data", "multipart/form-data; boundary=" + "x" * 201):
        with pytest.raises(BadParameter, match="boundary"):
            form_boundary(bad)
    with pytest.raises(BadParameter, match="more than 1024"):
        form_boundary("multipart/form-data" + ";" * 60_000)


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
