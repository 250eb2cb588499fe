"""Bodies that arrive compressed, unpacked within the limits of any body."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager

from starlette.datastructures import Headers

from service.dataplane.body_budget import BodyBudget
from service.errors import BadParameter, BodyTooLarge, UnsupportedEncoding

ACCEPTED = "gzip, deflate"
"""What an answer names as Accept-Encoding where a request had another one."""
MOST_CODINGS = 2
"""One after the other; each unpacks up to the limit of a body."""
MOST_MEMBERS = 4096
"""Of a gzip body: bgzip makes 512 of the largest body by default."""
_PIECE = 1 << 20
"""Bytes that are unpacked before others have their turn."""
_FEED = 1 << 16
"""Bytes that are given to zlib at a time; it copies what it leaves of them."""
_KNOWN = {"gzip": "gzip", "x-gzip": "gzip", "deflate": "deflate"}
_GZIP, _ZLIB, _RAW = 16 + zlib.MAX_WBITS, zlib.MAX_WBITS, -zlib.MAX_WBITS


def codings_of(headers: Headers) -> Sequence[str]:
    """What was done to the body, first to last (RFC 9110, section 8.4). Raises UnsupportedEncoding.

    It is asked before the body is read.
    """
    given = headers.getlist("content-encoding")
    if not given:
        return ()
    names = [name.strip(" \t").lower() for name in ",".join(given).split(",")]
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
    """The body as it was before ``codings``; what they yield is in the budget meanwhile.

    Raises BodyTooLarge when one yields more than ``limit`` bytes, Overloaded when the budget is
    used up, BadParameter for what is not encoded so.
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
            pieces.clear()  # or all of it would be held twice until the request is answered
        yield body
    finally:
        budget.give(taken)


def _pieces(body: bytes, coding: str) -> Iterator[bytes]:
    """Up to `_PIECE` bytes at a time, for at most `_FEED` bytes of the body. Raises BadParameter.

    A gzip body may have several members (RFC 1952, section 2.2). What is called deflate should be
    zlib's format (RFC 9110, section 8.4.1.2), and is bare deflate from some clients.
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
    """Whether its first two bytes are zlib's (RFC 1950, section 2.2)."""
    if len(body) < 2:
        return True
    first, second = body[0], body[1]
    return first & 0x0F == 8 and first >> 4 <= 7 and (first << 8 | second) % 31 == 0
