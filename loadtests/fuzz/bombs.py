"""Make small files that cost much to decode: pixels, passes, frames, compressed bytes."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from functools import cache

from PIL import Image

from loadtests.fuzz.dice import Dice
from loadtests.fuzz.oddities import riff, segment, zeros
from loadtests.fuzz.seeds import bmp, chunk, encoded, png, profile

AREAS = ((700, 700), (1000, 1000), (1001, 1000), (7000, 7000), (8200, 8200))
"""Sides around the pixel limits of both fuzzed services: 1,000,000 and 67,108,864."""
SIDES = ((1, 1), (1, 100_000), (100_000, 1), (1, 100_001), (50_000, 20), (3, 16_383))


def bomb(dice: Dice, kind: str) -> bytes:
    """Return a bomb of this format; those that take long to make are made once."""
    options: dict[str, tuple[Callable[[Dice], bytes], ...]] = {
        "png": (
            _png_area,
            _png_ratio,
            _png_texts,
            _png_interlaced,
            _png_frames,
            _png_size,
            _png_flood,
        ),
        "jpeg": (_jpeg_area, _jpeg_scans, _jpeg_segments, _jpeg_size, _jpeg_flood),
        "webp": (_webp_area, _webp_frames, _webp_icc, _webp_size),
        "gif": (_gif_area, _gif_frames, _gif_codes, _gif_size, _gif_flood),
        "bmp": (_bmp_area, _bmp_runs, _bmp_size),
    }
    return dice.choice(options[kind])(dice)


def _size(dice: Dice, bits: int) -> tuple[int, int]:
    """Sides of 0, 1 and many pixels."""
    if dice.random() < 0.5:
        width, height = dice.choice(SIDES)
        most = (1 << bits) - 1
        return min(width, most), min(height, most)
    return dice.number(bits), dice.choice((0, 1, dice.number(bits)))


@cache
def _plain(kind: str, size: tuple[int, int], mode: str, **options: bool) -> bytes:
    return encoded(Image.new(mode, size), kind, **options)


def _png_area(dice: Dice) -> bytes:
    return _plain("PNG", dice.choice(AREAS), dice.choice(("L", "RGB", "RGBA", "1", "P")))


def _png_ratio(dice: Dice) -> bytes:
    """A few pixels, and much more behind them."""
    raw = zeros(dice.choice((10_000, 200_000_000)))
    head = struct.pack(">IIBBBBB", 10, 10, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", raw) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def _png_texts(dice: Dice) -> bytes:
    """Compressed texts and profiles, before the pixels or behind them."""
    kind, lead = dice.choice(
        ((b"zTXt", b"Comment\0\0"), (b"iTXt", b"Comment\0\1\0\0\0"), (b"iCCP", b"name\0\0"))
    )
    many = chunk(kind, lead + zeros(dice.choice((60_000, 900_000, 80_000_000))))
    many *= dice.choice((1, 20, 400))
    data = _plain("PNG", (64, 48), "RGB")
    at = dice.choice((33, len(data) - 12))
    return data[:at] + many[:5_000_000] + data[at:]


def _png_interlaced(dice: Dice) -> bytes:
    side = dice.choice((990, 7000))
    return _adam7(side)


@cache
def _adam7(side: int) -> bytes:
    """Gray zeros in seven passes: each has rows of a filter byte and its pixels."""
    rows = 0
    for left, top, across, down in (
        *((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4)),
        *((0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)),
    ):
        rows += -(-(side - top) // down) * (1 + -(-(side - left) // across))
    return png((side, side), 8, 0, bytes(rows), interlace=1)


def _png_frames(dice: Dice) -> bytes:
    """An animation that announces more frames than there can be."""
    control = chunk(b"acTL", struct.pack(">II", dice.number(32), 0))
    frame = chunk(b"fcTL", struct.pack(">IIIIIHHBB", 0, 64, 48, 0, 0, 1, 1, 0, 0))
    more = control + frame * dice.choice((1, 9000))
    return png((64, 48), 8, 2, b"\0" * (193 * 48), more=more)


def _png_size(dice: Dice) -> bytes:
    size = _size(dice, 32)
    raw = bytes(min(2_000_000, (1 + size[0]) * size[1]))
    return png(size, dice.choice((1, 8, 8, 16)), dice.choice((0, 2, 3, 4, 6)), raw)


def _jpeg_area(dice: Dice) -> bytes:
    return _plain(
        "JPEG",
        dice.choice(AREAS),
        dice.choice(("L", "RGB", "CMYK")),
        progressive=dice.random() < 0.5,
    )


def _jpeg_scans(dice: Dice) -> bytes:
    """A progressive picture with a pass that says nothing, again and again."""
    data = _plain("JPEG", dice.choice(AREAS[:4]), dice.choice(("L", "RGB")), progressive=True)
    table = segment(0xC4, b"\x10" + bytes([1] + [0] * 15) + b"\xe0")
    scan = table + segment(0xDA, bytes([1, 1, 0, 1, 63, 0])) + b"\x7f" * 3
    return data[:-2] + scan * dice.choice((10, 80, 95, 5000)) + b"\xff\xd9"


def _jpeg_segments(dice: Dice) -> bytes:
    """Comments, profiles or EXIF blocks, large or many."""
    data = _plain("JPEG", (64, 48), "RGB")
    marker = dice.choice((0xFE, 0xE1, 0xE1, 0xE2, 0xED, 0xE5))
    lead = {0xE1: b"Exif\0\0MM\0*\0\0\0\x08", 0xE2: b"ICC_PROFILE\0\1\1", 0xED: b"Photoshop 3.0\0"}
    body = lead.get(marker, b"") + bytes(dice.choice((0, 10, 3_300, 65_500)))
    drop = segment(marker, body)
    many = drop * min(dice.choice((1, 70, 9_900)), FLOOD_BYTES // len(drop))
    return data[:2] + many + data[2:]


def _jpeg_size(dice: Dice) -> bytes:
    data = _plain("JPEG", (64, 48), "L")
    at = data.index(b"\xff\xc0") + 5
    width, height = _size(dice, 16)
    return data[:at] + struct.pack(">HH", height, width) + data[at + 4 :]


def _webp_area(dice: Dice) -> bytes:
    """Smaller ones than of other formats: its encoder takes seconds for a whole area."""
    size = dice.choice(((700, 700), (1001, 1000), (4000, 4000)))
    return _plain("WEBP", size, dice.choice(("RGB", "RGBA")), lossless=True)


def _webp_frames(dice: Dice) -> bytes:
    """A large canvas, and frames of one pixel on it: again and again, or none."""
    width, height = dice.choice(((700, 700), (999, 999), (7000, 7000), (16383, 3000)))
    canvas = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    pixel = _plain("WEBP", (1, 1), "RGB", lossless=True)[12:]
    frame = riff(b"ANMF", bytes(6) + bytes(6) + bytes([10, 0, 0, 0]) + pixel)
    body = riff(b"VP8X", b"\2\0\0\0" + canvas) + riff(b"ANIM", bytes(6))
    body += frame * dice.choice((0, 1, 2, 5000))
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def _webp_icc(dice: Dice) -> bytes:
    """A profile, an EXIF block or XMP of megabytes."""
    pixel = _plain("WEBP", (64, 48), "RGB", lossless=True)[12:]
    more = riff(dice.choice((b"ICCP", b"EXIF", b"XMP ")), bytes(dice.choice((0, 9, 4_000_000))))
    head = riff(b"VP8X", bytes([dice.choice((0x20, 8, 4)), 0, 0, 0, 63, 0, 0, 47, 0, 0]))
    body = head + riff(b"ICCP", profile()) + more + pixel + more
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def _webp_size(dice: Dice) -> bytes:
    data = _plain("WEBP", (64, 48), "RGB", lossless=True)
    width, height = _size(dice, 14)
    bits = (width & 0x3FFF) | (height & 0x3FFF) << 14
    return data[:21] + struct.pack("<I", bits) + data[25:]


def _gif_area(dice: Dice) -> bytes:
    return _plain("GIF", dice.choice(AREAS), "L")


def _gif_frames(dice: Dice) -> bytes:
    """A large canvas; frames of one pixel, each of which could fill it."""
    width, height = dice.choice(((700, 700), (999, 999), (7000, 7000), (65535, 762)))
    frame = b"!\xf9\4\x08\0\0\0\0," + struct.pack("<4HB", 0, 0, 1, 1, 0) + b"\2\2\x44\1\0"
    head = b"GIF89a" + struct.pack("<HH", width, height) + b"\x80\0\0" + bytes(6)
    return head + frame * dice.choice((1, 2, 3000)) + b";"


def _gif_codes(dice: Dice) -> bytes:
    """Codes for more pixels than there are, or tables that are emptied all the time."""
    head = b"GIF89a" + struct.pack("<HH", 10, 10) + b"\x80\0\0" + bytes(6)
    codes = dice.choice((b"\x44" * 255, b"\x24" * 255, bytes(255), b"\xff" * 255))
    image = b"," + struct.pack("<4HB", 0, 0, 10, 10, 0) + bytes([dice.choice((2, 8, 12))])
    return head + image + (b"\xff" + codes) * dice.choice((1, 1000, 20_000)) + b"\0;"


def _gif_size(dice: Dice) -> bytes:
    data = _plain("GIF", (64, 48), "L")
    at = dice.choice((6, 6, data.rindex(b",") + 1, data.rindex(b",") + 5))
    return data[:at] + struct.pack("<HH", *_size(dice, 16)) + data[at + 4 :]


def _bmp_area(dice: Dice) -> bytes:
    """In one bit, two for a run, or none: pixels that are announced and are not there."""
    width, height = dice.choice(AREAS[:3])
    bits = dice.choice((1, 4, 8))
    pixels = bytes(-(-width * bits // 32) * 4 * height)
    return bmp((width, height), bits, 0, pixels[: dice.choice((0, 9999, len(pixels)))], bytes(1024))


def _bmp_runs(dice: Dice) -> bytes:
    """Run-length encoded: long, endless, or with jumps beyond the picture."""
    width, height = dice.choice(((64, 48), (1000, 1000), (1001, 1000), (7000, 7000)))
    row = b"\xff\0" * (width // 255) + bytes([width % 255, 0]) + b"\0\0"
    jumps = bytes([0, 2, 255, 255]) * dice.choice((1, 1000, 100_000))
    pixels = dice.choice((row * min(height, 1000), jumps, b"\1\0" * 400_000, b"\0\0" * 400_000))
    bits, compression = dice.choice(((8, 1), (4, 2)))
    return bmp((width, height), bits, compression, pixels + b"\0\1", bytes(1024))


def _bmp_size(dice: Dice) -> bytes:
    width, height = _size(dice, 31)
    sides = (width * dice.choice((1, 1, -1)), height * dice.choice((1, -1)))
    bits, compression = dice.choice((1, 2, 4, 8, 16, 24, 32, 0)), dice.number(3)
    header = dice.choice((12, 16, 40, 52, 56, 64, 108, 124))
    return bmp(sides, bits, compression, bytes(5000), bytes(1024), header)


FLOOD_BYTES = 10_000_000
"""A reader that steps through them in Python takes seconds."""


def _flooded(data: bytes, at: int, drop: bytes) -> bytes:
    return data[:at] + drop * (FLOOD_BYTES // len(drop)) + data[at:]


def _png_flood(dice: Dice) -> bytes:
    data = _plain("PNG", (64, 48), "RGB")
    drop = chunk(dice.choice((b"abCd", b"IDAT", b"tEXt", b"fcTL")), b"")
    return _flooded(data, dice.choice((33, len(data) - 12)), drop)


def _jpeg_flood(dice: Dice) -> bytes:
    drops = (
        b"\xff",
        b"\xff\0",
        b"\xff\xd0",
        b"\xff\xd8",
        b"\xff\xd9",
        b"\xff\x01",
        b"\0",
        b"\xff\xc8",
    )
    more = (segment(0xFE, b""), segment(0xF3, bytes(65_000)), segment(0xDB, bytes(65) * 1000))
    data = _plain("JPEG", (64, 48), "RGB")
    return _flooded(data, dice.choice((2, len(data) - 2)), dice.choice(drops + more))


def _gif_flood(dice: Dice) -> bytes:
    data = _plain("GIF", (64, 48), "L")
    drop = dice.choice((b"!\xfe\0", b"!\xfe\1a\0", b"!\xf9\0", b"\0", b"!\xff\0", b",", b"\1a"))
    return _flooded(data, dice.choice((13, data.rindex(b","), len(data) - 1)), drop)


def deflated(data: bytes) -> bytes | None:
    """Return what a zlib stream holds; None where it is cut or large."""
    unpacker = zlib.decompressobj()
    try:
        content = unpacker.decompress(data, 1_000_000)
    except zlib.error:
        return None
    return content if unpacker.eof else None
