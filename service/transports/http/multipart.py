"""Takes forms of pictures apart (RFC 7578; RFC 2046, section 5.1.1), without copying pictures."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from python_multipart.multipart import parse_options_header

from service.errors import BadParameter, BodyTooLarge

PART_NAME = "image"

MAX_TYPE_BYTES = 1024
"""How long the content type of a form may be; reading it takes more than linear time."""
MAX_BOUNDARY_BYTES = 200
"""RFC 2046 allows 70."""
MAX_PART_HEAD_BYTES = 8192
MAX_PART_PARAMETERS = 300
"""How many semicolons a part's Content-Disposition may have, each of which takes a microsecond to
read. A file name has at most 255 characters, all of which may be semicolons."""
MAX_FALSE_BOUNDARIES = 100
"""How many lines may begin like a boundary without being one; a correct form has none."""

_NAME = re.compile(rb"image(?:\[[0-9]{0,9}\])?")
"""The name of a part; PHP and axios number the parts of a list."""
_REST = re.compile(rb"(--)?+[ \t]*+(?:\r\n|\Z)")
"""What follows the boundary in its line; two hyphens mark the last one."""
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*)", re.DOTALL)
_SHOWN = 64


class _Boundary(NamedTuple):
    start: int
    """Where it starts, with the line break before it."""
    end: int
    """Where its line ends, behind the line break."""
    last: bool


def form_boundary(content_type: str) -> bytes | None:
    """Return the boundary in the content type of a form, or None where it is another type.

    Raises BadParameter for a content type that is too long or has no usable boundary.
    """
    if not content_type[:32].lower().lstrip().startswith("multipart/form-data"):
        return None
    if len(content_type) > MAX_TYPE_BYTES:
        raise BadParameter(f"the content type has more than {MAX_TYPE_BYTES} characters")
    kind, options = parse_options_header(content_type)
    if kind != b"multipart/form-data":
        return None
    boundary = options.get(b"boundary", b"")
    if not 1 <= len(boundary) <= MAX_BOUNDARY_BYTES:
        raise BadParameter(
            "the content type multipart/form-data has no usable boundary: let your HTTP client "
            "write this header, because it makes the boundary"
        )
    return boundary


def pictures_of(body: bytes, boundary: bytes, limit: int) -> list[memoryview]:
    """Return the parts named `image`, in order; bytes before the first and behind the last go.

    Raises BadParameter for a broken form, a form without such a part, or one with other parts
    (most likely parameters, which belong into the query string); BodyTooLarge when it has more
    than ``limit`` parts.
    """
    found: list[memoryview] = []
    part: _Boundary | None = None
    for boundary_line in _boundaries(body, boundary):
        if part is not None:
            start = _data_start(body, part.end, boundary_line.start)
            found.append(memoryview(body)[start : boundary_line.start])
        if boundary_line.last:
            if not found:
                raise BadParameter(f"the form has no part named {PART_NAME!r}")
            return found
        if len(found) == limit:
            raise BodyTooLarge(f"the request holds more than {limit} pictures, which is the limit")
        part = boundary_line
    if part is not None:
        raise BadParameter("the multipart body is truncated: its closing boundary is missing")
    raise BadParameter(_without(boundary, body))


def _boundaries(body: bytes, boundary: bytes) -> Iterator[_Boundary]:
    mark, at, false = b"\r\n--" + boundary, 0, 0
    start = -2 if body.startswith(mark[2:]) else body.find(mark)
    while start != -1:
        at = start + len(mark)
        rest = _REST.match(body, at)
        if rest is not None:
            yield _Boundary(max(start, 0), rest.end(), rest[1] is not None)
            at = rest.end() - 2  # the line break may also be that before the next boundary
        else:
            false += 1
            if false > MAX_FALSE_BOUNDARIES:
                raise BadParameter("the multipart body has its own boundary in its parts")
        start = body.find(mark, at)


def _data_start(body: bytes, start: int, end: int) -> int:
    """Return where the data of a part begins whose head begins at ``start``.

    Raises BadParameter for a head that is too long, has no end, or is not that of a picture.
    """
    break_ = body.find(b"\r\n\r\n", start - 2, min(end, start + MAX_PART_HEAD_BYTES) + 2)
    if break_ == -1:
        if end - start > MAX_PART_HEAD_BYTES:
            raise BadParameter(
                f"a form part has more than {MAX_PART_HEAD_BYTES} bytes of headers, or no empty "
                "line behind them"
            )
        raise BadParameter("a form part has no empty line behind its headers")
    _check_name(body[start:break_] if break_ >= start else b"")
    return min(break_ + 4, end)


def _check_name(head: bytes) -> None:
    disposition = ""
    for line in re.sub(rb"\r\n[ \t]+", b" ", head).split(b"\r\n"):  # folded lines
        header = _HEADER.fullmatch(line)
        if header is None and line:
            raise BadParameter("a form part has a header line without a name")
        if header is not None and header[1].lower() == b"content-disposition":
            disposition = header[2].decode("latin-1")
    if disposition.count(";") > MAX_PART_PARAMETERS:
        raise BadParameter(
            f"the Content-Disposition of a form part has more than {MAX_PART_PARAMETERS} parameters"
        )
    kind, options = parse_options_header(disposition)
    name = options.get(b"name")
    if kind != b"form-data" or name is None:
        raise BadParameter("a form part has no Content-Disposition: form-data with a name")
    if not _NAME.fullmatch(name):
        shown = name[:_SHOWN].decode("utf-8", "replace")
        raise BadParameter(
            f"the form has a part named {shown!r}: pictures are parts named {PART_NAME!r}, "
            "parameters belong into the query string"
        )


def _without(boundary: bytes, body: bytes) -> str:
    if not body:
        return "the multipart body is empty"
    named = repr(boundary[:_SHOWN].decode("utf-8", "replace"))
    says = f"the multipart body has no line with the boundary of its content type, {named}"
    line = re.match(rb"--([!-~]{1,70})\r?\n", body)
    if line is None:
        return says
    return f"{says}; it begins with {line[1].decode()!r}"
