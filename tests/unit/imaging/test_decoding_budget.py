"""Decoding takes time that is linear in bytes and pixels, for files made to take long.

A thread that decodes cannot be stopped, so what a file may ask for is bounded before.
"""

from __future__ import annotations

import io
import random
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from PIL import Image

from loadtests.fuzz import bombs
from loadtests.fuzz.oddities import riff, segment
from loadtests.fuzz.seeds import bmp, chunk
from service.engine.allocator import return_large_blocks
from service.errors import PictureTooLarge, UndecodablePicture
from service.imaging.decode import DEFAULT_MAX_PIXELS, decode

# to watch which lines run takes CPU seconds as well
pytestmark = pytest.mark.no_cover
MEGABYTE = 1 << 20
BODY = 4 * MEGABYTE
"""Of what a body may have an eighth: what is not linear shows."""
SECONDS = 2.0
SECONDS_PER_MEGABYTE = 0.2
SECONDS_PER_MEGAPIXEL = 0.1
"""CPU seconds on any machine, several times what was measured on a slow one."""
SIDE = 4000


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def small(kind: str, **options: Any) -> bytes:
    return encoded(Image.new("RGB", (64, 64)), kind, **options)


def filled(data: bytes, place: int, drop: bytes, size: int = BODY) -> bytes:
    """The file with ``drop`` repeated at one place."""
    return data[:place] + drop * max(1, size // len(drop)) + data[place:]


def directory(entries: int) -> bytes:
    """A TIFF block whose entries all point to the same 60 KB."""
    body = b"".join(struct.pack("<HHII", each, 7, 60_000, 8) for each in range(entries))
    return b"II*\0" + struct.pack("<IH", 8, entries) + body + bytes(4)


def jpegs() -> Iterator[tuple[str, bytes]]:
    """Segments before the pixels and behind them, scans, restarts."""
    data, exif = small("JPEG"), b"Exif\0\0"
    before = {
        "EXIF of 3 KB": segment(0xE1, exif + bytes(3300)),
        "EXIF of 64 KB": segment(0xE1, exif + bytes(65_000)),
        "an EXIF directory": segment(0xE1, exif + directory(5300)),
        "an MPF directory": segment(0xE2, b"MPF\0" + directory(5300)),
        "XMP": segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + b"tiff:Orientation " * 3800),
        "profiles": segment(0xE2, b"ICC_PROFILE\0\1\xff" + bytes(65_000)),
        "Photoshop": segment(0xED, b"Photoshop 3.0\0" + (b"8BIM\4\0" + bytes(6)) * 5400),
        "comments": segment(0xFE, bytes(65_000)),
        "JFIF": segment(0xE0, b"JFIF\0" + bytes(9)),
        "Adobe": segment(0xEE, b"Adobe" + bytes(7)),
        "quantization tables": segment(0xDB, bytes(65) * 1000),
        "Huffman tables": segment(0xC4, (b"\0\0\1" + bytes(14) + b"\5") * 3600),
        "frames": segment(0xC0, bytes([8, 0, 64, 0, 64, 3]) + bytes(65_000)),
        "restart intervals": segment(0xDD, b"\0\1"),
        "fill bytes": b"\xff",
        "starts": b"\xff\xd8",
        "ends": b"\xff\xd9",
    }
    for name, drop in before.items():
        yield f"{name}, before", filled(data, 2, drop)
        yield f"{name}, behind", filled(data, len(data) - 2, drop)
        yield f"{name}, once", filled(data, 2, drop, 1)
    yield "much EXIF, before", filled(data, 2, before["EXIF of 3 KB"], 4 * BODY)
    yield "many fill bytes, behind", filled(data, len(data) - 2, b"\xff", 8 * BODY)
    yield "empty EXIF", filled(data, 2, segment(0xE1, exif), 10 * 190_000)
    yield "scans of zeros", filled(data, len(data) - 2, b"\xff\0" * 500)
    yield "cut fill bytes", filled(data, len(data) - 2, b"\xff")[:-2]
    yield "restarts", filled(data, len(data) - 2, b"\xff\xd0")
    large = Image.new("RGB", (SIDE, SIDE))
    yield "a restart for each block", encoded(large, "JPEG", restart_marker_blocks=1)
    progressive = encoded(large, "JPEG", progressive=True, subsampling=0)
    table = segment(0xC4, b"\x10\1" + bytes(15) + b"\xe0")
    scan = table + segment(0xDA, bytes([1, 1, 0, 1, 63, 0])) + b"\x7f" * 3
    missing = 100 - progressive.count(b"\xff\xda")
    yield "100 scans", progressive[:-2] + scan * missing + b"\xff\xd9"


def pngs() -> Iterator[tuple[str, bytes]]:
    """Chunks of every kind, many or unpacked; pixels in small pieces or in seven passes."""
    data = small("PNG")
    frame = struct.pack(">IIIIIHHBB", 0, 64, 64, 0, 0, 1, 1, 0, 0)
    drops = {
        "profiles": chunk(b"iCCP", b"name\0\0" + zlib.compress(bytes(MEGABYTE - 1), 9)),
        "texts": chunk(b"tEXt", b"a\0b"),
        "packed texts": chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(MEGABYTE - 1), 9)),
        "XMP": chunk(
            b"iTXt",
            b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(b"tiff:Orientation " * 61_000, 9),
        ),
        "EXIF as text": chunk(
            b"zTXt",
            b"Raw profile type exif\0\0"
            + zlib.compress(b"\n\n\n" + directory(40_000).hex().encode()),
        ),
        "EXIF": chunk(b"eXIf", b"II"),
        "an EXIF directory": chunk(b"eXIf", directory(65_000).ljust(4 * MEGABYTE, b"\0")),
        "empty pixels": chunk(b"IDAT", b""),
        "frames": chunk(b"fcTL", frame),
        "frames' pixels": chunk(b"fdAT", bytes(4)),
        "palettes": chunk(b"PLTE", bytes(3)),
        "transparency": chunk(b"tRNS", bytes(6)),
        "unknown": chunk(b"abCd", b""),
    }
    for name, drop in drops.items():
        yield f"{name}, before", filled(data, 33, drop)
        yield f"{name}, behind", filled(data, len(data) - 12, drop)
        yield f"{name}, few", filled(data, 33, drop, min(BODY, 9000 * len(drop)))
    packed = zlib.compress(bytes(193 * 64), 0)
    pieces = b"".join(chunk(b"IDAT", packed[at : at + 1]) for at in range(len(packed)))
    yield "pixels in pieces", data[:33] + pieces + data[-12:]
    yield "seven passes", bombs._adam7(SIDE)
    yield "more than its pixels", bombs._png_ratio(random.Random(3))  # type: ignore[arg-type]


def gifs() -> Iterator[tuple[str, bytes]]:
    """Extensions before the first frame, frames behind it, codes that say nothing."""
    data = encoded(Image.new("L", (64, 64)), "GIF")
    first = data.index(b",", 13)
    drops = {
        "comments": b"!\xfe" + (b"\xff" + bytes(255)) * 100 + b"\0",
        "short comments": b"!\xfe\1a\0",
        "controls": b"!\xf9\4\0\0\0\0\0",
        "applications": b"!\xff\x0bNETSCAPE2.0" + b"\xff" + bytes(255) + b"\0",
        "zeros": b"\0",
        "frames": data[first:-1],
    }
    for name, drop in drops.items():
        yield f"{name}, before", filled(data, first, drop)
        yield f"{name}, behind", filled(data, len(data) - 1, drop)
    head = b"GIF89a" + struct.pack("<HH", SIDE, SIDE) + b"\x80\0\0" + bytes(6)
    image = b"," + struct.pack("<4HB", 0, 0, SIDE, SIDE, 0) + b"\2"
    for name, codes in {"short": b"\1\x24", "empty": b"\xff" + b"\x24" * 255}.items():
        yield f"{name} blocks", head + image + codes * (BODY // len(codes))
    yield "a large one", encoded(Image.new("L", (SIDE, SIDE)), "GIF")


def webps() -> Iterator[tuple[str, bytes]]:
    """Chunks, frames on a large canvas, metadata."""
    pixels = small("WEBP", lossless=True)[12:]
    one = encoded(Image.new("RGB", (1, 1)), "WEBP", lossless=True)[12:]
    frame = riff(b"ANMF", bytes(12) + bytes([10, 0, 0, 0]) + one)

    def whole(flags: int, side: int, body: bytes) -> bytes:
        canvas = (side - 1).to_bytes(3, "little") * 2
        body = riff(b"VP8X", bytes([flags, 0, 0, 0]) + canvas) + body
        return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body

    directories = riff(b"EXIF", directory(65_000).ljust(BODY, b"\0"))
    yield "an EXIF directory", whole(8, 64, pixels + directories)
    yield "EXIF", whole(8, 64, pixels + riff(b"EXIF", b"II") * (BODY // 10))
    yield "unknown", whole(8, 64, pixels + riff(b"abcd", b"") * (BODY // 8))
    yield "XMP", whole(4, 64, pixels + riff(b"XMP ", b"tiff:Orientation " * (BODY // 17)))
    yield "a profile", whole(32, 64, riff(b"ICCP", bytes(BODY)) + pixels)
    for side in (64, SIDE):
        yield f"frames {side}", whole(2, side, riff(b"ANIM", bytes(6)) + frame * 100_000)
    yield "a large one", encoded(Image.new("RGBA", (SIDE, SIDE)), "WEBP", lossless=True, method=0)


def bmps() -> Iterator[tuple[str, bytes]]:
    """Runs, which Pillow reads in Python, and palettes."""
    runs = {"runs": b"\1\0", "jumps": b"\0\2\0\0", "ends": b"\1\0\0\0", "pairs": b"\0\3\1\1"}
    for name, run in runs.items():
        pixels = run * (1_900_000 // len(run))
        yield name, bmp((1000, 1000), 4, 2, pixels, bytes(1024))
    yield "a large one", bmp((SIDE, SIDE), 8, 0, bytes(BODY), bytes(1024))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("files", [jpegs, pngs, gifs, webps, bmps])
def test_a_file_made_to_take_long(files: Callable[[], Iterator[tuple[str, bytes]]]) -> None:
    return_large_blocks()  # as the service does: each step of a quadratic join is then a copy
    for name, data in files():
        pixels = 0
        begun = time.thread_time()
        try:
            image = decode(data, max_pixels=DEFAULT_MAX_PIXELS)
            pixels = image.width * image.height
        except (PictureTooLarge, UndecodablePicture):
            pixels = SIDE * SIDE if "large" in name or "blocks" in name else 0
        seconds = time.thread_time() - begun
        allowed = SECONDS + SECONDS_PER_MEGABYTE * len(data) / MEGABYTE
        allowed += SECONDS_PER_MEGAPIXEL * pixels / 1e6
        assert seconds < allowed, (name, len(data), seconds, allowed)
