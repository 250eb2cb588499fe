"""A PNG whose pixels are interrupted is read as Pillow reads it: what follows the gap is not."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from service.errors import UndecodablePicture
from service.imaging.decode import decode

SIDE = 20
PIXELS = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
TEXT = b"tEXt", b"Comment\0between"


def png(*chunks: tuple[bytes, bytes]) -> bytes:
    header = struct.pack(">IIBBBBB", SIDE, SIDE, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in ((b"IHDR", header), *chunks, (b"IEND", b""))
    )


def halves() -> tuple[tuple[bytes, bytes], tuple[bytes, bytes]]:
    packed = zlib.compress(b"".join(b"\0" + row.tobytes() for row in PIXELS))
    middle = len(packed) // 2
    return (b"IDAT", packed[:middle]), (b"IDAT", packed[middle:])


def test_pixels_in_a_row_are_whole() -> None:
    first, second = halves()
    for chunks in ((first, second), (TEXT, first, second), (first, second, TEXT)):
        np.testing.assert_array_equal(np.asarray(decode(png(*chunks))), PIXELS)


def test_pixels_behind_a_gap_are_none() -> None:
    first, second = halves()
    broken = png(first, TEXT, second)
    with pytest.raises(OSError, match="truncated"), Image.open(io.BytesIO(broken)) as theirs:
        theirs.load()
    with pytest.raises(UndecodablePicture, match="truncated"):
        decode(broken)
