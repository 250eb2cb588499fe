"""Cuts large EXIF blocks down to the orientation, which is all that is read of them.

A block is a TIFF file (EXIF 2.32, section 4.5). Pillow reads its whole first directory in Python
and keeps what each entry points to, so without this a sender could choose how much work that is.
"""

from __future__ import annotations

import struct

MAX_ENTRIES = 512
"""The most entries of a directory that are left to Pillow. Cameras write some 15."""
MAX_BLOCK_BYTES = 65_000
"""Larger blocks are cut down. One segment of a JPEG holds no more than this."""
MARK = b"Exif\0\0"

_ORIENTATION = 0x0112
_MOST_KEPT = 4
_INLINE = {1: 1, 2: 1, 3: 2, 4: 4, 6: 1, 7: 1, 8: 2, 9: 4, 11: 4, 13: 4}
"""Bytes of a value by the number of its TIFF type, for types whose value fits into an entry."""


def entries(data: bytes, start: int) -> int:
    """Return how many entries a TIFF block's first directory announces; 0 without a directory."""
    return _directory(data, start)[2]


def shortened(block: bytes) -> bytes:
    """Return the block itself where it is small, else one that holds its orientation alone.

    ``block`` may begin with "Exif\\0\\0", once or twice. Of several orientations Pillow takes the
    first that it can read, so the first four are kept.
    """
    start = 0
    while start < 2 * len(MARK) and block.startswith(MARK, start):
        start += len(MARK)
    order, first, count = _directory(block, start)
    if len(block) <= MAX_BLOCK_BYTES and count <= MAX_ENTRIES:
        return block
    tag = struct.pack(order + "H", _ORIENTATION)
    kept: list[bytes] = []
    for at in range(first, min(first + 12 * count, len(block) - 11), 12):
        if block[at : at + 2] == tag:
            kind, values = struct.unpack_from(order + "HI", block, at + 2)
            if values * _INLINE.get(kind, 5) <= 4:
                kept.append(block[at : at + 12])
                if len(kept) == _MOST_KEPT:
                    break
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, len(kept))
    return MARK + head + b"".join(kept) + bytes(4)


def _directory(block: bytes, start: int) -> tuple[str, int, int]:
    """Return the byte order (of `struct`), the offset of the first directory's entries, and their
    number.
    """
    order = {b"II": "<", b"MM": ">"}.get(block[start : start + 2])
    if order is None or len(block) < start + 8:
        return "<", 0, 0
    offset = start + struct.unpack_from(order + "I", block, start + 4)[0]
    if offset + 2 > len(block):
        return order, 0, 0
    (count,) = struct.unpack_from(order + "H", block, offset)
    return order, offset + 2, count
