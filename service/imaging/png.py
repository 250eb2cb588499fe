"""Leaves out the chunks of a PNG that its pixels do not depend on, before Pillow sees the file.

Training loaders ignore texts, colour profiles and resolutions. Pillow reads and unpacks all of
them, and refuses a picture for a wrong checksum in one.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator

from service.errors import UndecodablePicture

MAX_CHUNKS = 100_000
"""The most chunks of a file, since we walk them in Python. Some encoders write one for each row."""
MAX_KEPT_CHUNKS = 10_000
"""The most chunks, other than pixels, that are handed on to Pillow, which reads them in Python."""
MAX_TEXT_BYTES = 1 << 20
"""The most bytes of a text with an orientation, packed and unpacked; Pillow refuses larger ones."""
MAX_TEXTS = 4
"""The most texts with an orientation that are kept."""

_NEEDED = frozenset((b"IHDR", b"PLTE", b"tRNS", b"gAMA", b"acTL", b"fcTL"))
"""Chunks that are kept where they stand before the pixels. The last two say where an animation's
first frame lies."""
_DATA = frozenset((b"IDAT", b"fdAT", b"DDAT"))
_TEXTS = frozenset((b"tEXt", b"zTXt", b"iTXt"))
_ORIENTED = frozenset((b"exif", b"xmp", b"Raw profile type exif", b"XML:com.adobe.xmp"))
"""Keywords of the texts in which Pillow looks for an orientation."""
_KIND = re.compile(rb"\w{4}")
"""The names that Pillow takes for a chunk's; it stops reading at anything else."""
_SMALLEST = {b"gAMA": 4, b"acTL": 8, b"fcTL": 26}
"""The least bytes of content by chunk: Pillow refuses a picture for a shorter one."""


class _Chunk:
    """A chunk of ``data``: its header begins at ``start``, its content at ``body``; it ends, with
    its checksum, at ``stop``. ``length`` is that of the content, in bytes.
    """

    __slots__ = ("body", "data", "kind", "length", "start", "stop")

    def __init__(self, data: bytes, start: int, kind: bytes, length: int) -> None:
        self.data, self.kind, self.start = data, kind, start
        self.length, self.body, self.stop = length, start + 8, start + 12 + length

    def is_whole(self) -> bool:
        """Whether it lies in the file as a whole and its checksum is right."""
        if self.stop > len(self.data) or self.length < _SMALLEST.get(self.kind, 0):
            return False
        content = memoryview(self.data)[self.start + 4 : self.stop - 4]
        return zlib.crc32(content) == int.from_bytes(self.data[self.stop - 4 : self.stop], "big")


def _chunks(data: bytes) -> Iterator[_Chunk]:
    position = 8
    for _ in range(MAX_CHUNKS):
        if position + 8 > len(data):
            return
        length, kind = struct.unpack_from(">I4s", data, position)
        chunk = _Chunk(data, position, kind, length)
        yield chunk
        position = chunk.stop
    raise UndecodablePicture(f"the PNG picture has more than {MAX_CHUNKS} chunks")


def kept(data: bytes) -> list[slice] | None:
    """Return the parts of a PNG that Pillow needs, in order; None where it needs all of it.

    A file that ends early is no error here: the decoder finds out whether pixels are missing.
    Raises UndecodablePicture for more chunks than a real picture has.
    """
    if _is_plain(data):
        return None
    pieces: list[slice] = [slice(0, 8)]
    pixels = others = texts = 0  # `pixels` is where the last chunk of pixels ends
    announced = animated = ended = False
    for chunk in _chunks(data):
        kind = chunk.kind
        if kind in _DATA:
            # Pillow skips pixels before the header, and ends at the first chunk between pixels
            wanted = announced and pixels in (0, chunk.start)
            if wanted:
                pixels = chunk.stop
        elif kind == b"IEND" or not _KIND.match(kind):
            _append(pieces, slice(chunk.start, min(chunk.stop, len(data))))
            ended = True  # Pillow stops here too
            break
        elif kind in _NEEDED:
            if pixels and animated and kind == b"fcTL":
                break  # the second frame begins
            # a small first letter says that a picture can be read without the chunk
            wanted = not pixels and (kind[0] < 0x60 or chunk.is_whole())
            animated = animated or kind == b"acTL"
            announced = announced or kind == b"IHDR"
        elif kind == b"eXIf":
            wanted = chunk.is_whole()
        else:
            wanted = kind in _TEXTS and texts < MAX_TEXTS and _tells_orientation(chunk)
            texts += wanted
        if wanted:
            _append(pieces, slice(chunk.start, min(chunk.stop, len(data))))
            others += kind not in _DATA
            if others > MAX_KEPT_CHUNKS:
                raise UndecodablePicture(f"the PNG picture has more than {MAX_KEPT_CHUNKS} chunks")
    if len(pieces) == 1 and (ended or pieces[0].stop >= len(data)):
        return None
    return pieces


_PLAIN = frozenset((b"PLTE", b"IDAT"))


def _is_plain(data: bytes) -> bool:
    """Whether the file has nothing but header, palette and pixels, as most have."""
    position, kind = 8, b"IHDR"
    if data[12:16] != kind:
        return False
    for _ in range(MAX_CHUNKS):
        position += 12 + int.from_bytes(data[position : position + 4], "big")
        previous, kind = kind, data[position + 4 : position + 8]
        if kind == b"IEND":
            return True
        if kind not in _PLAIN or (kind == b"PLTE" and previous == b"IDAT"):
            return False
    return False


def _append(pieces: list[slice], piece: slice) -> None:
    """Append a piece, or lengthen the last one where the piece follows right behind it."""
    if pieces[-1].stop == piece.start:
        pieces[-1] = slice(pieces[-1].start, piece.stop)
    else:
        pieces.append(piece)


def _tells_orientation(chunk: _Chunk) -> bool:
    """Whether the chunk is a text that may hold an orientation, and that Pillow does not refuse."""
    if chunk.length > MAX_TEXT_BYTES or not chunk.is_whole():
        return False
    body = chunk.data[chunk.body : chunk.stop - 4]
    keyword, _, rest = body.partition(b"\0")
    if keyword not in _ORIENTED:
        return False
    if chunk.kind == b"zTXt":
        return rest[:1] in (b"", b"\0") and _fits(rest[1:])
    if chunk.kind == b"iTXt" and rest[:2] == b"\1\0":
        return _fits(rest[2:].split(b"\0", 2)[-1])
    return True


def _fits(packed: bytes) -> bool:
    unpacker = zlib.decompressobj()
    try:
        unpacker.decompress(packed, MAX_TEXT_BYTES)
    except zlib.error:
        return False
    return not unpacker.unconsumed_tail
