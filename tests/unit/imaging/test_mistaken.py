"""What clients send in place of a picture is refused by its name, whatever brought it."""

from __future__ import annotations

import base64
import gzip
import json
import time

import pytest

from service.errors import UnsupportedFormat
from service.imaging.decode import decode
from service.imaging.mistaken import sentence
from tests.photographs import CHELSEA, COFFEE

PICTURE = COFFEE.read_bytes()
ENCODED = base64.b64encode(PICTURE)
PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)

MISTAKES = {
    "base64": (ENCODED, "base64 text of a"),
    "base64 in lines": (base64.encodebytes(PICTURE), "base64 text of a"),
    "base64 in CRLF lines": (base64.encodebytes(PNG).replace(b"\n", b"\r\n"), "text of a PNG"),
    "base64 of URLs": (base64.urlsafe_b64encode(b"BM" + b"\xff\xfe" * 40), "text of a BMP"),
    "base64 of others": (base64.b64encode(bytes(range(200))), "is base64 text; "),
    "little base64": (base64.b64encode(b"GIF89a" + bytes(5)), "base64 text of a GIF"),
    "a data URL": (b"data:image/jpeg;base64," + ENCODED, "a data URL"),
    "DATA": (b" Data:image/png;charset=utf-8,abc", "a data URL"),
    "a URL": (b"https://example.org/cat.jpg", "nothing is fetched"),
    "a file's": (b"file:///etc/passwd\n", "nothing is fetched"),
    "JSON": (json.dumps({"image": ENCODED.decode()}).encode(), "JSON; "),
    "a list": (b'[\n  "' + ENCODED, "JSON; "),
    "numbers": (b"[[[255, 216, 255], [0, 1, 2]]]", "JSON; "),
    "a text in JSON": (b'"' + ENCODED + b'"', "JSON; "),
    "JSON with a mark": (b'\xef\xbb\xbf{"a": "\xc3\xa9"}', "JSON; "),
    "pairs": (b"image=%FF%D8%FF%E0&top_k=3", "URL-encoded HTML form"),
    "pairs with base64": (b"image=" + ENCODED, "URL-encoded HTML form"),
    "a pair of bytes": (b"image=" + PICTURE, "URL-encoded HTML form"),
    "curl -d": (b"image=@cat.jpg", "URL-encoded HTML form"),
    "a form": (b"--x\r\nContent-Disposition: form-data; name=a\r\n\r\nb", "multipart form"),
    "a form with a picture": (
        b'--x\r\nContent-Disposition: form-data; name="image"\r\n\r\n' + PICTURE,
        "multipart form",
    ),
    "a form behind a line": (b"hello\r\n\r\n--x\r\nContent-Type: a/b\r\n\r\nb", "multipart form"),
    "hexadecimal": (PNG.hex().encode(), "hexadecimal text of a PNG"),
    "read as text": (PICTURE[:300].decode("utf-8", "replace").encode(), "read as text"),
    "read as Latin-1": (CHELSEA.read_bytes()[:300].decode("latin-1").encode(), "read as text"),
    "without line breaks": (PNG.replace(b"\r", b"").replace(b"\n", b""), "line breaks"),
    "other line breaks": (PNG.replace(b"\r\n", b"\n"), "line breaks"),
    "compressed": (gzip.compress(PICTURE), "Content-Encoding: gzip"),
    "JavaScript's": (b"[object File]", "JavaScript"),
    "Python's": (repr(PICTURE[:200]).encode(), "Python"),
}


@pytest.mark.parametrize("kind", MISTAKES)
def test_a_mistake_is_named_with_what_to_do(kind: str) -> None:
    data, words = MISTAKES[kind]
    with pytest.raises(UnsupportedFormat) as refused:
        decode(data)
    detail = refused.value.detail
    assert words in detail
    assert detail.isascii()
    assert detail.isprintable()
    assert len(detail) < 300


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"hello", b"I am a cat, honestly", b"a=b\nc", b"{", b"cat.jpg", b"abcdefgh" * 7),
        *(bytes(range(256)), b"\0" * 100, b"II*\0" + bytes(50), b"{\0" * 20, b"caf\xe9 data:,"),
        b"<svg/>",
    ],
)
def test_what_is_not_known_is_not_guessed(data: bytes) -> None:
    found = sentence(data)
    assert found is None or data == b"{"


@pytest.mark.parametrize(
    "data", [b"A" * 30_000_000, b"\n" * 30_000_000, b"a\n" * 15_000_000, b"--" * 15_000_000]
)
def test_only_the_first_bytes_are_looked_at(data: bytes) -> None:
    started = time.process_time()
    sentence(data)
    assert time.process_time() - started < 0.5
