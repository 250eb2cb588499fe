"""Names what a client sent in place of a picture, by its first bytes, for the text of an error.

It is called only once a request has failed, and decides nothing. It decodes a few bytes at most.
"""

from __future__ import annotations

import base64
import binascii
import re

from service.imaging.formats import format_of

HEAD_BYTES = 4096
"""How many of the first bytes are looked at."""
_LEAST_BASE64 = 64
"""From so many characters on a text counts as base64 whatever it encodes."""

_FORM = re.compile(rb"(?:[^\r\n]{0,200}\r?\n){0,5}--[!-~ ]{1,200}\r?\ncontent-", re.IGNORECASE)
_NAME = re.compile(rb"[A-Za-z_][\w.%+\[\]-]{0,63}")
"""The name of a form's field."""
_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]+={0,2}")
_LINES = re.compile(rb"\r\n|\n")
_HEX = re.compile(rb"(?:0x)?((?:[0-9A-Fa-f]{2}){8,})")

_SENT = "send the bytes of the picture themselves"
_AS_FORM = (
    "a URL-encoded HTML form, as curl -d sends it; send the picture by curl --data-binary @FILE, "
    "or by curl -F image=@FILE as multipart/form-data"
)
_TEXTS = (
    (
        re.compile(rb"data:[\w/+.;=\-]{0,200},", re.IGNORECASE),
        f"a data URL; {_SENT}, which base64 encodes behind its comma",
    ),
    (
        re.compile(rb"(?:https?|ftp|file|s3|gs|blob)://?[!-~]", re.IGNORECASE),
        f"a URL, and nothing is fetched here; {_SENT}",
    ),
    (re.compile(rb"\[object "), f"the text that JavaScript makes of an object; {_SENT}"),
    (re.compile(rb"b['\"]"), f"the text that Python's str() makes of bytes; {_SENT}"),
    (
        re.compile(rb'\{\s*(?:"|\}|\Z)|\[\s*[\["{\]0-9.-]|"[^"\r\n]*(?:"\s*\Z|\Z)'),
        f"JSON; {_SENT} (curl --data-binary @FILE) or a form with a part `image`; JSON that "
        "holds pictures in base64 goes to /v2/models/NAME/infer",
    ),
    (re.compile(_NAME.pattern + rb"=[^\r\n]*(?:\r?\n)?\Z"), _AS_FORM),
)
"""How a text begins, and what it is then; the first counts. Base64, which is looked for before, may
look like a form."""


def sentence(data: bytes | bytearray | memoryview) -> str | None:
    """Say in one sentence what was sent in place of a picture, and how to send one.

    Returns None where ``data`` is none of the known mistakes.
    """
    head = bytes(data[:HEAD_BYTES])
    found = _form(head.lstrip()) or _binary(head)
    if found is None and _is_text(head):
        text = head.removeprefix(b"\xef\xbb\xbf").strip()
        known = (what for begins, what in _TEXTS if begins.match(text))
        found = _encoded(text) or next(known, None)
    return None if found is None else f"what came is no picture: it is {found}"


def _binary(head: bytes) -> str | None:
    if head.startswith(b"\x1f\x8b"):
        return "compressed by gzip; over HTTP say so, by Content-Encoding: gzip"
    if head.startswith(b"\x89PNG") and b"\x1a" in head[4:8]:
        return (
            "a PNG whose line breaks were changed or lost; send it as binary data (curl "
            "--data-binary, not -d)"
        )
    for start in (b"\xc3\xbf\xc3\x98\xc3\xbf", b"\xc2\x89PNG", b"\xef\xbf\xbd"):
        if head.startswith(start):
            return "binary data that was read as text, which changed it; read the file as bytes"
    name, _, value = head[:80].partition(b"=")
    return _AS_FORM if _NAME.fullmatch(name) and format_of(value) else None


def _form(head: bytes) -> str | None:
    """Recognise a multipart form, which is text up to its first picture."""
    if _FORM.match(head):
        return (
            "a multipart form whose request does not say so; its Content-Type must be "
            "multipart/form-data with the form's boundary, as HTTP clients write it themselves"
        )
    return None


def _is_text(head: bytes) -> bool:
    """Whether it is UTF-8 without control characters; the last character may be cut off."""
    if re.search(rb"[\x00-\x08\x0b\x0e-\x1f\x7f]", head):
        return False
    return len(head.decode("utf-8", "ignore").encode()) > len(head) - 4


def _encoded(text: bytes) -> str | None:
    """Recognise text in base64 or hexadecimal."""
    digits = _HEX.match(text)
    if digits and (kind := format_of(binascii.unhexlify(digits[1][:32]))):
        return f"hexadecimal text of a {kind} picture; {_SENT}"
    joined = _LINES.sub(b"", text)
    if not _BASE64.fullmatch(joined):
        return None
    start = joined[:64].rstrip(b"=").translate(bytes.maketrans(b"-_", b"+/"))
    try:
        kind = format_of(base64.b64decode(start[: len(start) // 4 * 4]))
    except binascii.Error:
        return None
    if kind is not None:
        return f"base64 text of a {kind} picture; {_SENT}, decoded"
    return f"base64 text; {_SENT}, decoded" if len(joined) >= _LEAST_BASE64 else None
