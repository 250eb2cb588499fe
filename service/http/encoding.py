"""Bodies that arrive compressed, unpacked within the limits of any body."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from service.bodies import BodyBudget
from service.errors import BadParameter, BodyTooLarge

_PIECE = 1 << 20
"""Bytes that are unpacked before others have their turn."""
_WINDOWS = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
"""How zlib knows the two formats."""


@asynccontextmanager
async def unpacked(
    body: bytes, encoding: str, limit: int, budget: BodyBudget
) -> AsyncIterator[bytes]:
    """The body as it was before ``Content-Encoding``; its bytes are in the budget meanwhile.

    Raises BodyTooLarge when it has more than ``limit`` bytes, Overloaded when the budget is used
    up, BadParameter for another encoding or what is not encoded so.
    """
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        yield body
        return
    if encoding not in _WINDOWS:
        known = ", ".join(_WINDOWS)
        raise BadParameter(f"Content-Encoding is {encoding[:64]!r}, it can be {known} or identity")
    unpacker, rest, pieces, size = zlib.decompressobj(_WINDOWS[encoding]), body, [], 0
    try:
        while not unpacker.eof:
            piece = unpacker.decompress(rest, _PIECE)
            if not piece and not unpacker.eof:
                raise BadParameter(f"the {encoding} body is truncated")
            if size + len(piece) > limit:
                raise BodyTooLarge(f"the body unpacks to more than {limit} bytes, the limit")
            budget.take(len(piece))
            size += len(piece)
            pieces.append(piece)
            rest = unpacker.unconsumed_tail
            await asyncio.sleep(0)
        if unpacker.unused_data:
            raise BadParameter(f"something follows the {encoding} body")
        yield b"".join(pieces)
    except zlib.error as error:
        raise BadParameter(f"the body is no {encoding}: {error}") from None
    finally:
        budget.give(size)
