"""Picture files as containers: recognised, and walked once before a decoder sees them.

Decoders trust a file's structure: a hundred bytes can ask for one more pass over 50 million
pixels, and a loop in Python runs once per chunk. What follows bounds both, and finds files whose
end is missing although all pixels are there. It reads headers only; pixels are Pillow's.
"""

from __future__ import annotations

import re
import struct

from service.errors import PictureTooLarge, UndecodablePicture

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")

MAX_JPEG_SCANS = 100
"""Progressive files of cameras and encoders have about ten."""
MAX_BLOCKS = 200_000
"""Chunks, segments or sub-blocks of one file: a 32 MB GIF has 131,000 of 255 bytes."""
MAX_EXTENSION_BLOCKS = 10_000
"""Of these, those that Pillow walks in Python: all but a GIF's pixels."""
MAX_STRAY_BYTES = 10_000
"""Before a JPEG's first scan, between its segments: Pillow steps over each of them in Python."""
MAX_RLE_PIXELS = 1_000_000
"""Pillow decodes run-length encoded BMP in Python."""


def format_of(data: bytes | bytearray | memoryview) -> str | None:
    """The format by the first bytes, or None for any other."""
    head = bytes(data[:16])
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if head.startswith(b"BM"):
        return "BMP"
    return None


def check_structure(kind: str, data: bytes) -> None:
    """Walk a file of format ``kind``, before Pillow does, which has no limits.

    Raises UndecodablePicture when it is truncated or has more parts than a real one,
    PictureTooLarge when it would take too long. What is broken otherwise is left to the decoder.
    """
    try:
        {"PNG": _png, "GIF": _gif, "JPEG": _jpeg, "BMP": _bmp, "WEBP": _nothing}[kind](data)
    except (IndexError, struct.error):
        raise _truncated(kind) from None


def webp_size(data: bytes) -> tuple[int, int]:
    """Canvas size from the first chunk's header (RFC 9649, sections 2.5 to 2.7).

    Pillow allocates a whole canvas as soon as it opens a WebP. Raises UndecodablePicture.
    """
    chunk, body = data[12:16], data[20:30]
    if len(body) == 10:
        if chunk == b"VP8X":
            return 1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little")
        if chunk == b"VP8L":
            bits = int.from_bytes(body[1:5], "little")
            return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
        if chunk == b"VP8 ":
            width, height = struct.unpack_from("<HH", body, 6)
            return width & 0x3FFF, height & 0x3FFF
    raise UndecodablePicture("the WEBP picture's header is broken or truncated")


def gif_size(data: bytes) -> tuple[int, int]:
    """Canvas with the first frame on it, which may enlarge it.

    Pillow allocates that much as soon as it opens a GIF. What comes before the frame is read as
    Pillow reads it: where that is not what GIF89a says, a frame could be hidden otherwise. Raises
    UndecodablePicture.
    """
    try:
        width, height = struct.unpack_from("<HH", data, 6)
        left, top, across, down = struct.unpack_from("<4H", data, _gif_frame(data) + 1)
    except (IndexError, struct.error):
        raise _truncated("GIF") from None
    return max(width, left + across), max(height, top + down)


def _gif_frame(data: bytes) -> int:
    """Where the first image descriptor is."""
    flags = data[10]
    position = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    blocks = 0
    while (kind := data[position]) != 0x2C:
        if kind != 0x21:
            raise UndecodablePicture("the GIF picture is broken: no image where one should be")
        label, position = data[position + 1], position + 2
        # Pillow reads one block, or two, before it looks for the empty one that ends them
        unasked = 0 if label == 0xFE else 1
        if label == 0xFF and data[position] and data.startswith(b"NETSCAPE2.0", position + 1):
            unasked = 2
        while (size := data[position]) or unasked > 0:
            position += 1 + size
            unasked -= 1
            blocks += 1
            _check_blocks(blocks)
        position += 1
        blocks += 1  # the empty one
        _check_blocks(blocks)
    return position


def _check_blocks(count: int) -> None:
    if count > MAX_EXTENSION_BLOCKS:
        raise _too_many("GIF", "blocks", MAX_EXTENSION_BLOCKS)


def _truncated(kind: str) -> UndecodablePicture:
    return UndecodablePicture(f"the {kind} picture is truncated: its end is missing")


def _too_many(kind: str, what: str, limit: int) -> UndecodablePicture:
    return UndecodablePicture(f"the {kind} picture has more than {limit} {what}")


def _nothing(data: bytes) -> None:
    """WebP is decoded whole or not at all."""


def _png(data: bytes) -> None:
    """Chunks up to IEND (PNG specification, section 5.3)."""
    position = 8
    for _ in range(MAX_EXTENSION_BLOCKS):
        length, kind = struct.unpack_from(">I4s", data, position)
        position += 12 + length
        if position > len(data):
            raise _truncated("PNG")
        if kind == b"IEND":
            return
    raise _too_many("PNG", "chunks", MAX_EXTENSION_BLOCKS)


def _gif(data: bytes) -> None:
    """Blocks up to the trailer (GIF89a, sections 18 to 27)."""
    flags = data[10]
    position = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    blocks = extensions = 0
    while (kind := data[position]) != 0x3B:
        if kind == 0x2C:  # an image: descriptor, colour table, code size
            flags = data[position + 9]
            position += 11 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
        elif kind == 0x21:  # an extension and its label
            position += 2
        else:
            raise UndecodablePicture("the GIF picture is broken: a block of no known kind")
        more = True
        while more:
            more = data[position] != 0
            position += 1 + data[position]
            blocks += 1
            extensions += kind == 0x21
            if blocks > MAX_BLOCKS or extensions > MAX_EXTENSION_BLOCKS:
                raise _too_many("GIF", "blocks", MAX_EXTENSION_BLOCKS)


_JPEG_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
"""A marker after entropy-coded data: not a stuffed zero, a restart or a fill byte."""


_JPEG_BARE = frozenset((0x01, 0xC8, 0xD8, *range(0xF0, 0xFE)))
"""Markers whose segment Pillow does not skip: temporary, start of image, extensions."""


def _jpeg(data: bytes) -> None:
    """Segments and scans up to EOI (ITU-T T.81, annex B); what follows it is not looked at."""
    position = scans = stray = 0
    for _ in range(MAX_EXTENSION_BLOCKS):
        found = _JPEG_MARKER.search(data, position)
        stray += (found.start() if found else len(data)) - position
        if not scans and stray > MAX_STRAY_BYTES:
            raise _too_many("JPEG", "stray bytes", MAX_STRAY_BYTES)
        if found is None:
            return  # Pillow says what is missing
        marker, position = data[found.end() - 1], found.end()
        if marker == 0xD9:
            if not scans:
                raise UndecodablePicture("the JPEG picture ends before its first scan")
            return
        if marker in _JPEG_BARE:
            continue
        if position + 2 > len(data):
            return
        position += max(2, int.from_bytes(data[position : position + 2], "big"))
        scans += marker == 0xDA
        if scans > MAX_JPEG_SCANS:
            raise _too_many("JPEG", "scans", MAX_JPEG_SCANS)
    raise _too_many("JPEG", "segments", MAX_EXTENSION_BLOCKS)


def _bmp(data: bytes) -> None:
    """The compression of a Windows header; OS/2's old one has none."""
    size, width, height = struct.unpack_from("<Iii", data, 14)
    if size < 40 or len(data) < 34:
        return
    (compression,) = struct.unpack_from("<I", data, 30)
    pixels = max(abs(width * height), len(data) // 2)  # a run takes two bytes
    if compression in (1, 2) and pixels > MAX_RLE_PIXELS:
        raise PictureTooLarge(
            f"the BMP picture is run-length encoded: the limit of that kind is "
            f"{MAX_RLE_PIXELS} pixels or runs"
        )
