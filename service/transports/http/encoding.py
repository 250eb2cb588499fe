"""Decompresses request bodies (Content-Encoding) within the limits of any body."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager

from starlette.datastructures import Headers

from service.dataplane.body_budget import BodyBudget
from service.errors import BadParameter, BodyTooLarge, UnsupportedEncoding

ACCEPTED = "gzip, deflate"
"""The Accept-Encoding of the answer to a request whose body had another coding."""
MOST_CODINGS = 2
"""How many codings may be applied one after the other; each may yield up to the body's limit."""
MOST_MEMBERS = 4096
"""How many members a gzip body may have: by default bgzip makes 512 of the largest body."""
_PIECE = 1 << 20
"""How many bytes are unpacked before the event loop has its turn."""
_FEED = 1 << 16
"""How many bytes zlib gets at a time, because it copies those that it leaves."""
_KNOWN = {"gzip": "gzip", "x-gzip": "gzip", "deflate": "deflate"}
_GZIP, _ZLIB, _RAW = 16 + zlib.MAX_WBITS, zlib.MAX_WBITS, -zlib.MAX_WBITS


def codings_of(headers: Headers) -> Sequence[str]:
    """Return the codings of the body in the order in which they were applied.

    See RFC 9110, section 8.4. Raises UnsupportedEncoding, before the body is read.
    """
    values = headers.getlist("content-encoding")
    if not values:
        return ()
    names = [name.strip(" \t").lower() for name in ",".join(values).split(",")]
    names = [name for name in names if name not in ("", "identity")]
    for name in names:
        if name not in _KNOWN:
            raise UnsupportedEncoding(
                f"Content-Encoding is {name[:64]!r}, it can be gzip, deflate or identity"
            )
    if len(names) > MOST_CODINGS:
        raise UnsupportedEncoding(
            f"Content-Encoding names {len(names)} codings, more than {MOST_CODINGS}"
        )
    return [_KNOWN[name] for name in names]


@asynccontextmanager
async def unpacked(
    body: bytes, codings: Sequence[str], limit: int, budget: BodyBudget
) -> AsyncIterator[bytes]:
    """Yield the body without its ``codings``. The unpacked bytes are in the budget meanwhile.

    Raises BodyTooLarge when a coding yields more than ``limit`` bytes, Overloaded when the budget
    is used up, and BadParameter for a body that is not encoded so.
    """
    taken = 0
    try:
        for coding in reversed(codings):
            pieces, size = [], 0
            for piece in _pieces(body, coding):
                if size + len(piece) > limit:
                    raise BodyTooLarge(f"the body unpacks to more than {limit} bytes, the limit")
                budget.take(len(piece))
                size += len(piece)
                taken += len(piece)
                pieces.append(piece)
                await asyncio.sleep(0)
            body = b"".join(pieces)
            pieces.clear()  # they would be held beside ``body`` until the request is answered
        yield body
    finally:
        budget.give(taken)


def _pieces(body: bytes, coding: str) -> Iterator[bytes]:
    """Unpack a body in pieces of up to `_PIECE` bytes, each of at most `_FEED` bytes of the body.

    A gzip body may have several members (RFC 1952, section 2.2). The coding called deflate is
    zlib's format (RFC 9110, section 8.4.1.2), but some clients send bare deflate, which is taken
    as well. Raises BadParameter.
    """
    window = _GZIP if coding == "gzip" else _ZLIB if _is_zlib(body) else _RAW
    rest, members = memoryview(body), 0
    while not members or (rest and coding == "gzip"):
        members += 1
        if members > MOST_MEMBERS:
            raise BadParameter(f"the {coding} body has more than {MOST_MEMBERS} members")
        unpacker = zlib.decompressobj(window)
        while not unpacker.eof:
            fed = rest[:_FEED]
            try:
                piece = unpacker.decompress(fed, _PIECE)
            except zlib.error as error:
                what = (
                    f"the body is no {coding}"
                    if members == 1
                    else f"something follows the {coding} body"
                )
                raise BadParameter(f"{what}: {error}") from None
            used = len(fed) - len(unpacker.unconsumed_tail) - len(unpacker.unused_data)
            if not piece and not used and not unpacker.eof:
                raise BadParameter(f"the {coding} body is truncated")
            rest = rest[used:]
            yield piece
    if rest:
        raise BadParameter(f"something follows the {coding} body")


def _is_zlib(body: bytes) -> bool:
    """Whether the first two bytes are a header of zlib's format (RFC 1950, section 2.2)."""
    if len(body) < 2:
        return True
    first, second = body[0], body[1]
    return first & 0x0F == 8 and first >> 4 <= 7 and (first << 8 | second) % 31 == 0
