"""Make small whole pictures of every kind that the service reads, to be mutated."""

from __future__ import annotations

import io
import struct
import zlib
from functools import cache
from typing import Any

from PIL import Image, ImageCms

from loadtests.harness.photographs import photograph

FORMATS = ("jpeg", "png", "webp", "gif", "bmp")
SIZE = (64, 48)


@cache
def seeds(kind: str) -> tuple[bytes, ...]:
    """Return the pictures of one format, the same wherever Pillow's encoders are."""
    picture = photograph("coffee.png").resize(SIZE)
    made = {"jpeg": _jpeg, "png": _png, "webp": _webp, "gif": _gif, "bmp": _bmp}
    return tuple(made[kind](picture))


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    """Encode the picture in this format."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@cache
def profile() -> bytes:
    """Return an ICC profile."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def exif(orientation: int = 6) -> Image.Exif:
    """Return a small EXIF block."""
    block = Image.Exif()
    block[0x0112] = orientation
    block[0x010F] = "a camera"
    return block


def _jpeg(image: Image.Image) -> list[bytes]:
    gray, cmyk = image.convert("L"), encoded(image.convert("CMYK"), "JPEG")
    at = cmyk.index(b"Adobe") + 11  # its transform: 2 is YCCK
    plain, marked = encoded(image, "JPEG"), encoded(image, "JPEG", exif=exif())
    block = marked[marked.index(b"\xff\xe1") :][: 2 + int.from_bytes(marked[4:6], "big")]
    table = plain[plain.index(b"\xff\xdb") :][:69]
    return [
        encoded(image, "JPEG"),
        encoded(image, "JPEG", progressive=True),
        encoded(image, "JPEG", quality=95, subsampling=0, optimize=True),
        encoded(image, "JPEG", restart_marker_blocks=2),
        encoded(image, "JPEG", exif=exif(), icc_profile=profile(), comment=b"a comment"),
        encoded(image, "JPEG", progressive=True, exif=exif(3), restart_marker_rows=1),
        encoded(gray, "JPEG"),
        encoded(gray, "JPEG", progressive=True),
        cmyk,
        cmyk[:at] + b"\2" + cmyk[at + 1 :],
        encoded(image.convert("CMYK"), "JPEG", progressive=True, icc_profile=profile()),
        encoded(image, "MPO", save_all=True, append_images=[image.rotate(180)]),
        plain[:2] + block * 3 + b"\xff\xfe\0\3x" * 100 + plain[2:],  # left out, but orientation
        b"\xff\xd8" + table + b"\xff\xd9" + plain,  # tables in a stream of their own
    ]


def chunk(kind: bytes, body: bytes) -> bytes:
    """Return a chunk of a PNG."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(
    size: tuple[int, int], depth: int, color: int, raw: bytes, interlace: int = 0, more: bytes = b""
) -> bytes:
    """Return a PNG of these filtered rows; ``more`` holds chunks before the pixels."""
    head = struct.pack(">IIBBBBB", *size, depth, color, 0, 0, interlace)
    body = chunk(b"IHDR", head) + more + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


_ADAM7 = (
    *((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4)),
    *((0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)),
)
"""Left, top, steps across and down of each pass."""


def _interlaced(image: Image.Image) -> bytes:
    """The rows of an RGB picture in seven passes (PNG specification, section 8.2)."""
    pixels, (width, height) = image.load(), image.size
    raw = bytearray()
    for left, top, across, down in _ADAM7:
        for y in range(top, height, down):
            raw.append(0)
            for x in range(left, width, across):
                raw += bytes(pixels[x, y])  # type: ignore[index, arg-type]
    return bytes(raw)


def _png(image: Image.Image) -> list[bytes]:
    gray, palette = image.convert("L"), image.quantize(64)
    wide = b"".join(b"\0" + image.crop((0, y, 64, y + 1)).tobytes() * 2 for y in range(48))
    texts = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"text" * 99))
    texts += chunk(b"tEXt", b"Title\0text") + chunk(b"gAMA", struct.pack(">I", 45455))
    plain = encoded(image, "PNG", exif=exif())
    bad = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(1_100_000)))
    bad += chunk(b"pHYs", bytes(9))[:-1] + b"?" + chunk(b"iCCP", b"name\0\0")[:-1] + b"?"
    packed = zlib.compress(_interlaced(image))
    pieces = [chunk(b"IDAT", packed[at : at + 60]) for at in range(0, len(packed), 60)]
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", *SIZE, 8, 2, 0, 0, 1))
    return [
        plain[:-12],
        plain[:33] + bad + plain[33:],
        b"\x89PNG\r\n\x1a\n" + head + b"".join(pieces) + chunk(b"IEND", b""),
        encoded(image, "PNG"),
        encoded(image, "PNG", exif=exif(), icc_profile=profile()),
        encoded(image.convert("RGBA"), "PNG"),
        encoded(gray, "PNG"),
        encoded(image.convert("LA"), "PNG"),
        encoded(image.convert("1"), "PNG"),
        encoded(palette, "PNG"),
        encoded(palette, "PNG", transparency=3, bits=8),
        encoded(image.quantize(4), "PNG", bits=2),
        encoded(gray.convert("I;16"), "PNG"),
        png(SIZE, 16, 2, wide),
        png(SIZE, 8, 2, _interlaced(image), interlace=1, more=texts),
        encoded(image, "PNG", save_all=True, append_images=[image.rotate(90), image.rotate(180)]),
    ]


def _webp(image: Image.Image) -> list[bytes]:
    more = [image.rotate(90), image.rotate(180)]
    return [
        encoded(image, "WEBP"),
        encoded(image, "WEBP", lossless=True),
        encoded(image.quantize(8).convert("RGB"), "WEBP", lossless=True),
        encoded(image.convert("RGBA").rotate(30), "WEBP"),
        encoded(image.convert("RGBA").rotate(30), "WEBP", lossless=True),
        encoded(image, "WEBP", exif=exif(), icc_profile=profile(), xmp=b"<x:xmpmeta/>"),
        encoded(image, "WEBP", save_all=True, append_images=more),
        encoded(image, "WEBP", save_all=True, append_images=more, lossless=True),
    ]


def _gif(image: Image.Image) -> list[bytes]:
    palette, more = image.quantize(128), [image.rotate(90), image.rotate(180)]
    plain = encoded(palette, "GIF")
    moving = encoded(image, "GIF", save_all=True, append_images=more, disposal=1)
    first, last = plain.index(b",", 13 + 3 * 128), moving.rindex(b"!\xf9\4")
    return [
        plain[:-1],
        plain[:first] + b"!\xfe\1a\0" * 600 + bytes(9) + plain[first:],
        moving[:last] + bytes(9) + moving[last:-30],
        encoded(palette, "GIF", interlace=0),
        encoded(palette, "GIF", interlace=1, transparency=3, comment=b"a comment"),
        encoded(image.quantize(2), "GIF"),
        encoded(image.convert("L"), "GIF"),
        encoded(image, "GIF", save_all=True, append_images=more, loop=0, disposal=2),
        encoded(image, "GIF", save_all=True, append_images=more, duration=10, disposal=3),
    ]


def bmp(
    size: tuple[int, int],
    bits: int,
    compression: int,
    pixels: bytes,
    palette: bytes = b"",
    header: int = 40,
    masks: tuple[int, ...] = (0xF800, 0x7E0, 0x1F, 0),
) -> bytes:
    """Return a BMP with a Windows header of this many bytes: masks come behind the first 40."""
    head = struct.pack("<IiiHHIIiiII", header, *size, 1, bits, compression, len(pixels), 0, 0, 0, 0)
    head += struct.pack("<4I", *masks)
    head = head.ljust(header, b"\0")[:header]
    offset = 14 + len(head) + len(palette)
    return (
        b"BM" + struct.pack("<IHHI", offset + len(pixels), 0, 0, offset) + head + palette + pixels
    )


def runs(size: tuple[int, int], bits: int = 8) -> bytes:
    """Return run-length encoded rows, some of runs, some literal, and a jump."""
    width, height = size
    rows = [bytes([width, row % 250, 0, 0]) for row in range(height // 2)]
    literal = bytes([0, width]) + bytes(range(width * bits // 8)) + b"\0\0"
    jump = bytes([0, 2, 3, 0, width - 3, 1, 0, 1])
    return b"".join(rows) + literal * (height - len(rows) - 1) + jump


def _bmp(image: Image.Image) -> list[bytes]:
    width, height = SIZE
    palette, pixels = bytes(range(256)) * 4, image.convert("L").tobytes()
    core = struct.pack("<IHHHH", 12, width, height, 1, 8)  # OS/2's
    old = b"BM" + struct.pack("<IHHI", 26 + 768 + len(pixels), 0, 0, 26 + 768) + core
    nibbles, words = pixels[: len(pixels) // 2], image.convert("LA").tobytes()
    return [
        encoded(image, "BMP"),
        encoded(image.convert("RGBA"), "BMP"),
        encoded(image.quantize(256), "BMP"),
        encoded(image.convert("1"), "BMP"),
        bmp(SIZE, 8, 1, runs(SIZE), palette),
        bmp(SIZE, 4, 2, runs(SIZE, 4), palette[:64]),
        bmp(SIZE, 4, 0, nibbles, palette[:64]),
        bmp(SIZE, 16, 0, words),
        bmp(SIZE, 16, 3, words, header=56),
        bmp(SIZE, 32, 3, words * 2, b"", 108, (0xFF0000, 0xFF00, 0xFF, 0xFF000000)),
        bmp(SIZE, 24, 0, pixels * 3, header=124),
        bmp((width, -height), 24, 0, pixels * 3),
        old + palette[:768] + pixels,
    ]
