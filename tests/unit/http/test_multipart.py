"""Forms as RFC 2046 and RFC 7578 allow them, and as clients write them."""

from __future__ import annotations

import re
import time

import pytest

from service.errors import BadParameter, BodyTooLarge
from service.transports.http.multipart import (
    MAX_FALSE_BOUNDARIES,
    form_boundary,
    pictures_of,
)
from tests.harness.forms import HEAD, form

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
