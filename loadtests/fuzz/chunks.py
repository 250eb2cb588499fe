"""Split a picture's file into its chunks, and repair it after some of them have changed.

Joined they are the file again, whatever it is: what cannot be read is the last chunk.
"""

from __future__ import annotations

import struct
import zlib

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def split(kind: str, data: bytes) -> list[bytes]:
    """Return chunks of PNG and WebP, segments of JPEG, blocks of GIF, headers of BMP."""
    return {"png": _png, "webp": _webp, "jpeg": _jpeg, "gif": _gif, "bmp": _bmp}[kind](data)


def repaired(kind: str, parts: list[bytes]) -> bytes:
    """Join the parts, with the checksums and lengths corrected that a reader checks first."""
    if kind == "png":
        return b"".join(map(_with_checksum, parts))
    data = b"".join(parts)
    if kind == "webp" and len(data) >= 12:
        return data[:4] + struct.pack("<I", len(data) - 8) + data[8:]
    if kind == "bmp" and len(data) >= 6:
        return data[:2] + struct.pack("<I", len(data)) + data[6:]
    return data


def _with_checksum(chunk: bytes) -> bytes:
    """The chunk's length and CRC after what it is now; the signature is left alone."""
    if len(chunk) < 12 or chunk.startswith(PNG_SIGNATURE):
        return chunk
    body = chunk[4:-4]
    return struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))


def _png(data: bytes) -> list[bytes]:
    parts, position = [data[:8]], 8
    while position + 12 <= len(data):
        end = position + 12 + int.from_bytes(data[position : position + 4], "big")
        parts.append(data[position:end])
        position = end
    return [*parts, *_rest(data, position)]


def _webp(data: bytes) -> list[bytes]:
    parts, position = [data[:12]], 12
    while position + 8 <= len(data):
        length = int.from_bytes(data[position + 4 : position + 8], "little")
        end = position + 8 + length + length % 2
        parts.append(data[position:end])
        position = end
    return [*parts, *_rest(data, position)]


def _jpeg(data: bytes) -> list[bytes]:
    """A scan's data belong to its header."""
    parts, position = [data[:2]], 2
    while position + 4 <= len(data) and data[position] == 0xFF:
        end = position + 2 + int.from_bytes(data[position + 2 : position + 4], "big")
        if data[position + 1] == 0xDA:
            while end + 1 < len(data) and not (
                data[end] == 0xFF and data[end + 1] not in (0, *range(0xD0, 0xD8))
            ):
                end += 1
        parts.append(data[position:end])
        position = end
    return [*parts, *_rest(data, position)]


def _gif(data: bytes) -> list[bytes]:
    flags = data[10] if len(data) > 10 else 0
    position = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    parts = [data[:position]]
    while position + 10 < len(data) and data[position] in (0x2C, 0x21):
        end = position + 2
        if data[position] == 0x2C:
            flags = data[position + 9]
            end = position + 11 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
        while end < len(data) and data[end]:
            end += 1 + data[end]
        parts.append(data[position : end + 1])
        position = end + 1
    return [*parts, *_rest(data, position)]


def _bmp(data: bytes) -> list[bytes]:
    offset = int.from_bytes(data[10:14], "little")
    head = 14 + int.from_bytes(data[14:18], "little")
    if not 18 <= head <= offset <= len(data):
        return [data[:14], data[14:]]
    return [data[:14], data[14:head], data[head:offset], data[offset:]]


def _rest(data: bytes, position: int) -> list[bytes]:
    return [data[position:]] if position < len(data) else []
