"""Recognises a picture file's format, and bounds what its structure may cost before it is decoded.

Decoders trust a file's structure: a hundred bytes can ask for one more pass over 50 million
pixels, and Pillow runs a loop in Python once per chunk. `walk` goes through the file once and
bounds that work. It does not judge whether a picture is whole: Pillow does, as in training. Parts
that no pixel depends on are left out where Pillow would take long for them.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from typing import NamedTuple

from service.errors import PictureTooLarge, UndecodablePicture
from service.imaging import exif, png

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")

MAX_JPEG_SCANS = 100
"""The most scans of a progressive JPEG. Those of cameras and encoders have about ten."""
MAX_BLOCKS = 200_000
"""The most segments of a JPEG, chunks of a WebP, or sub-blocks before a GIF's first frame, since
`walk` goes through them in Python."""
MAX_EXTENSION_BLOCKS = 10_000
"""The most of these that cannot be left out, since Pillow reads them in Python."""
MAX_METADATA_BYTES = 256 * 1024
"""Where the comments and application segments of a JPEG have more bytes, they are left out."""
MAX_METADATA_SEGMENTS = 64
"""Where there are more comments and application segments, they are left out."""
MAX_TABLE_BYTES = 100_000
"""The most bytes of a JPEG's quantization tables and frame headers, which Pillow reads number by
number in Python."""
MAX_SPARE_BLOCKS = 1000
"""Where a GIF has more sub-blocks of comments and stray bytes, they are left out."""
MAX_STRAY_BYTES = 10_000
"""The most bytes between a JPEG's segments, before its first scan: Pillow steps over each of them
in Python."""
MAX_FILL_BYTES = 1024
"""The most bytes 0xFF in a row in a JPEG's scans: libjpeg goes back to the first of them for every
64 KB that Pillow hands it, so that 32 MB took 12 s."""
MAX_RLE_PIXELS = 1_000_000
"""The most pixels of a run-length encoded BMP, which Pillow decodes in Python."""


def format_of(data: bytes | bytearray | memoryview) -> str | None:
    """Return the one of `FORMATS` that the first bytes announce, or None."""
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


class Walk(NamedTuple):
    """What is known of a file before a decoder opens it."""

    size: tuple[int, int] | None = None
    """The canvas (width, height) of a format for which Pillow allocates it on opening the file."""
    kept: Sequence[slice | bytes] | None = None
    """The parts of the file that a decoder needs; None for all of it."""


def walk(kind: str, data: bytes) -> Walk:
    """Go through a file of format ``kind`` once, since Pillow, which does so too, has no limits.

    The time is linear in the bytes. Raises UndecodablePicture when the file has more parts than a
    real one or no picture at all, PictureTooLarge when decoding it would take too long.
    """
    try:
        return {"PNG": _png, "GIF": _gif, "JPEG": _jpeg, "BMP": _bmp, "WEBP": _webp}[kind](data)
    except (IndexError, struct.error):
        raise UndecodablePicture(f"the {kind} picture is truncated: its end is missing") from None


def assembled(data: bytes | bytearray | memoryview, kept: Sequence[slice | bytes]) -> bytes:
    """Return the parts ``kept`` of a file as one, copied once."""
    view = memoryview(data)
    return b"".join(view[part] if isinstance(part, slice) else part for part in kept)


def _too_many(kind: str, what: str, limit: int) -> UndecodablePicture:
    return UndecodablePicture(f"the {kind} picture has more than {limit} {what}")


def _png(data: bytes) -> Walk:
    return Walk(kept=png.kept(data))


def _webp(data: bytes) -> Walk:
    """Count the chunks (RFC 9649, section 2.3), for each of which the decoder keeps 50 bytes."""
    size = webp_size(data)
    position, end = 12, len(data) - 8
    for _ in range(MAX_BLOCKS):
        if position > end:
            return Walk(size)
        length = int.from_bytes(data[position + 4 : position + 8], "little")
        position += 8 + length + length % 2
    raise _too_many("WEBP", "chunks", MAX_BLOCKS)


def webp_size(data: bytes) -> tuple[int, int]:
    """Return the canvas' (width, height) by the first chunk (RFC 9649, sections 2.5 to 2.7).

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


_GIF_BLOCK = re.compile(rb"[,!;]")
"""The first byte of an image, an extension or the trailer. Pillow steps over all others."""


def _gif(data: bytes) -> Walk:
    """Go through what comes before the first frame (GIF89a, sections 18 to 26), as Pillow reads it.

    Pillow is followed where it differs from GIF89a, or a frame could be hidden from this walk. The
    size is that of the canvas, which the first frame may enlarge. What follows the frame's header
    is not looked at: Pillow's decoder, which is in C, ends when all pixels are there.
    """
    width, height = struct.unpack_from("<HH", data, 6)
    flags = data[10]
    position = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    parts = [slice(0, position)]
    spare = blocks = controls = 0
    while True:
        found = _GIF_BLOCK.search(data, position)
        if found is None or data[found.start()] == 0x3B:
            raise UndecodablePicture("the GIF picture is broken: no image where one should be")
        start = found.start()
        spare += start - position
        if data[start] == 0x2C:
            break
        position, count = _gif_extension(data, start + 1, MAX_BLOCKS - blocks)
        blocks += count
        if blocks > MAX_BLOCKS:
            raise _too_many("GIF", "blocks", MAX_BLOCKS)
        if data[start + 1] == 0xF9:  # a control block: its colour fills the canvas round the frame
            parts.append(slice(start, position))
            controls += count
            if controls > MAX_EXTENSION_BLOCKS:
                raise _too_many("GIF", "blocks", MAX_EXTENSION_BLOCKS)
        else:
            spare += count
    left, top, across, down = struct.unpack_from("<4H", data, start + 1)
    parts.append(slice(start, len(data)))
    size = max(width, left + across), max(height, top + down)
    return Walk(size, parts if spare > MAX_SPARE_BLOCKS else None)


def _gif_extension(data: bytes, position: int, most: int) -> tuple[int, int]:
    """Return where the extension ends whose label is at ``position``, and its number of blocks.

    Raises UndecodablePicture where it has more than ``most``.
    """
    label, position = data[position], position + 1
    # Pillow reads one block, or two, before it looks for the empty one that ends them
    unchecked = 0 if label == 0xFE else 1
    if label == 0xFF and data[position] and data.startswith(b"NETSCAPE2.0", position + 1):
        unchecked = 2
    count = 1  # the empty block counts too
    while (size := data[position]) or unchecked > 0:
        position += 1 + size
        unchecked -= 1
        count += 1
        if count > most:
            raise _too_many("GIF", "blocks", MAX_BLOCKS)
    return position + 1, count


_JPEG_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
"""A marker after entropy-coded data, as against a stuffed zero, a restart or a fill byte."""
_JPEG_BARE = frozenset((0x01, 0xC8, 0xD8, 0xD9, *range(0xF0, 0xFE)))
"""Markers whose segment Pillow does not skip: temporary, start and end of image, extensions."""
_JPEG_TABLES = frozenset((0xDB, 0xDE, *range(0xC0, 0xD0))) - {0xC4, 0xC8, 0xCC}
"""Markers of quantization tables and frame headers."""
_JPEG_METADATA = frozenset((*range(0xE1, 0xF0), 0xFE)) - {0xEE}
"""Markers of application segments and comments, except for those of JFIF and Adobe, which say what
the colours mean."""
_FILL = b"\xff" * (MAX_FILL_BYTES + 1)
_XMP = b"http://ns.adobe.com/xap/1.0/\0"


def _jpeg(data: bytes) -> Walk:
    """Go through segments and scans up to EOI (ITU-T T.81, annex B), but not beyond it."""
    position = scans = stray = tables = needed = 0
    metadata: list[slice] = []
    for _ in range(MAX_BLOCKS):
        found = _JPEG_MARKER.search(data, position)
        end = found.start() if found else len(data)
        stray += end - position
        if not scans and stray > MAX_STRAY_BYTES:
            raise _too_many("JPEG", "stray bytes", MAX_STRAY_BYTES)
        if scans and data.find(_FILL, position, end) >= 0:
            raise _too_many("JPEG", "fill bytes in a row", MAX_FILL_BYTES)
        if metadata and metadata[-1].stop == position and not scans:
            metadata[-1] = slice(metadata[-1].start, end)  # so that a marker follows what is kept
        if found is None:
            break  # Pillow will say what is missing
        start, position = end, found.end()
        marker = data[position - 1]
        if marker == 0xD9 and scans:
            break
        if marker not in _JPEG_BARE:
            position += max(2, int.from_bytes(data[position : position + 2], "big"))
        if scans:
            scans += marker == 0xDA
        elif marker in _JPEG_METADATA:
            metadata.append(slice(start, position))
        else:
            scans += marker == 0xDA
            needed += 1
            tables += position - start if marker in _JPEG_TABLES else 0
            if needed > MAX_EXTENSION_BLOCKS:
                raise _too_many("JPEG", "segments", MAX_EXTENSION_BLOCKS)
            if tables > MAX_TABLE_BYTES:
                raise _too_many("JPEG", "bytes of tables", MAX_TABLE_BYTES)
        if scans > MAX_JPEG_SCANS:
            raise _too_many("JPEG", "scans", MAX_JPEG_SCANS)
    else:
        raise _too_many("JPEG", "segments", MAX_BLOCKS)
    return Walk(kept=_without_metadata(data, metadata) if _is_heavy(data, metadata) else None)


def _is_heavy(data: bytes, metadata: list[slice]) -> bool:
    """Whether Pillow would take long to read the metadata of a JPEG."""
    if not metadata:
        return False
    size = sum(part.stop - part.start for part in metadata)
    if len(metadata) > MAX_METADATA_SEGMENTS or size > MAX_METADATA_BYTES:
        return True
    # Pillow joins all EXIF blocks and reads the first directory of the result
    return any(
        data.startswith(mark, part.start + 4)
        and exif.entries(data, part.start + 4 + len(mark)) > exif.MAX_ENTRIES
        for part in metadata
        for mark in (exif.MARK, b"MPF\0")
    )


def _without_metadata(data: bytes, metadata: list[slice]) -> list[slice | bytes]:
    """Return the parts of a JPEG without its metadata, but with its orientation if it has one."""
    block = b""
    kept: list[slice | bytes] = [slice(0, 2)]
    described: slice | None = None
    position = 2
    for part in metadata:
        if position < part.start:
            kept.append(slice(position, part.start))
        position = part.stop
        if data[part.start + 1] == 0xE1:
            stop = part.start + 2 + int.from_bytes(data[part.start + 2 : part.start + 4], "big")
            if data.startswith(exif.MARK, part.start + 4):
                if len(block) < MAX_METADATA_BYTES:  # the directory is at the beginning of a block
                    block += data[part.start + 4 + len(exif.MARK) : stop]
            elif data.startswith(_XMP, part.start + 4):
                described = slice(part.start, stop)  # of several Pillow takes the last
    if described is not None:
        kept.insert(1, described)
    if block:
        block = exif.shortened(exif.MARK + block)
        kept.insert(1, b"\xff\xe1" + struct.pack(">H", 2 + len(block)) + block)
    kept.append(slice(position, len(data)))
    return kept


def _bmp(data: bytes) -> Walk:
    """Check the compression in a Windows header; the old header of OS/2 has none."""
    size, width, height = struct.unpack_from("<Iii", data, 14)
    if size < 40 or len(data) < 34:
        return Walk()
    (compression,) = struct.unpack_from("<I", data, 30)
    pixels = max(abs(width * height), len(data) // 2)  # a run takes two bytes
    if compression in (1, 2) and pixels > MAX_RLE_PIXELS:
        raise PictureTooLarge(
            f"the BMP picture is run-length encoded: the limit of that kind is "
            f"{MAX_RLE_PIXELS} pixels or runs"
        )
    return Walk()
