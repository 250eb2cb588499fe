"""Make file parts that are allowed somewhere, but not here, not so many, or not so large."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from functools import cache

from loadtests.fuzz.dice import Dice
from loadtests.fuzz.seeds import chunk, profile

Odd = Callable[[Dice], bytes]

_KINDS_PNG = (
    *(b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"iCCP", b"sBIT"),
    *(b"bKGD", b"hIST", b"pHYs", b"tIME", b"tEXt", b"zTXt", b"iTXt", b"eXIf", b"acTL", b"fcTL"),
    *(b"fdAT", b"cICP", b"oFFs", b"abCd", b"ABCD", b"\0\0\0\0"),
)
_KINDS_WEBP = (b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF", b"ICCP", b"EXIF", b"XMP ")
_EXTENSIONS_GIF = (0xF9, 0xFE, 0xFF, 0x01, 0x00)


@cache
def zeros(size: int) -> bytes:
    """Return ``size`` zeros, deflated to a thousandth of that."""
    return zlib.compress(bytes(size), 9)


def odd_exif(dice: Dice) -> bytes:
    """Return a TIFF block: lying counts, offsets anywhere, directories that form circles."""
    order = dice.choice("<>")
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    count = dice.choice((1, 1, 2, 40, 500))
    entries = b""
    for _ in range(count):
        tag = dice.choice((0x0112, 0x8769, 0x8825, 0xA005, 0x927C, 0x0201, 0x0202, 0x010F))
        entries += struct.pack(
            order + "HHII", tag, dice.randrange(16), dice.number(32), dice.choice((8, 3, 1 << 31))
        )
    said = dice.choice((count, count, dice.number(16)))
    following = struct.pack(order + "I", dice.choice((0, 8, 10, 0xFFFFFFFF)))
    block = head + struct.pack(order + "H", said) + entries + following + dice.junk(64)
    return block[: dice.randint(0, len(block))] if dice.one_in(8) else block


def odd_profile(dice: Dice) -> bytes:
    """Return an ICC profile that is cut, changed or of zeros."""
    whole = bytearray(profile())
    for _ in range(dice.choice((0, 1, 8))):
        whole[dice.randrange(min(160, len(whole)))] = dice.randrange(256)
    return dice.choice((bytes(whole), bytes(whole[: dice.randint(0, 200)]), bytes(60_000)))


def _png(dice: Dice) -> bytes:
    bomb = zeros(dice.choice((1000, 1_000_000, 80_000_000)))
    options: tuple[Callable[[], bytes], ...] = (
        lambda: chunk(dice.choice(_KINDS_PNG), dice.junk(80)),
        lambda: chunk(b"zTXt", b"Comment\0\0" + bomb),
        lambda: chunk(b"iTXt", b"Comment\0\1\0\0\0" + bomb),
        lambda: chunk(b"iCCP", b"name\0\0" + bomb),
        lambda: chunk(b"iCCP", b"name\0\0" + zlib.compress(odd_profile(dice))),
        lambda: chunk(b"IDAT", bomb),
        lambda: chunk(b"IDAT", b"") * dice.choice((1, 100, 20_000)),
        lambda: chunk(b"eXIf", odd_exif(dice)),
        lambda: chunk(b"tRNS", dice.junk(300)),
        lambda: chunk(b"PLTE", dice.junk(900)),
        lambda: chunk(b"tEXt", b"k" * dice.choice((0, 1, 79, 80)) + b"\0" + dice.junk(5000)) * 9,
        lambda: chunk(b"acTL", struct.pack(">II", dice.number(32), dice.number(32))),
        lambda: chunk(b"fcTL", struct.pack(">7I", *(dice.number(32) for _ in range(7)))[:26]),
        lambda: chunk(
            b"IHDR", struct.pack(">II", dice.number(32), dice.number(32)) + b"\x08\2\0\0\0"
        ),
    )
    return dice.choice(options)()


def segment(marker: int, body: bytes) -> bytes:
    """Return a segment of a JPEG; a body longer than one can be is cut."""
    body = body[:65533]
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


def _jpeg(dice: Dice) -> bytes:
    icc = b"ICC_PROFILE\0"
    sof = struct.pack(">BHHB", dice.choice((8, 8, 12, 16)), dice.number(16), dice.number(16), 3)
    options: tuple[Callable[[], bytes], ...] = (
        lambda: segment(dice.randrange(0xC0, 0xFF), dice.junk(120)),
        lambda: segment(0xE1, b"Exif\0\0" + odd_exif(dice)) * dice.choice((1, 2, 50)),
        lambda: segment(0xE2, icc + bytes([dice.number(8), dice.number(8)]) + odd_profile(dice)),
        lambda: segment(0xE2, icc + b"\1\xff" + bytes(60_000)) * 255,
        lambda: segment(0xE2, b"MPF\0" + odd_exif(dice)),
        lambda: segment(0xED, b"Photoshop 3.0\08BIM" + dice.junk(200)),
        lambda: segment(0xEE, b"Adobe\0\x64\0\0\0\0" + bytes([dice.number(8)])),
        lambda: segment(0xDB, bytes([dice.number(8)]) + dice.junk(130)),
        lambda: segment(0xC4, bytes([dice.number(8)]) + dice.junk(300)),
        lambda: segment(0xDD, struct.pack(">H", dice.number(16))),
        lambda: segment(0xDC, struct.pack(">H", dice.number(16))),
        lambda: segment(0xC0 + dice.randrange(16), sof + bytes(dice.number(8) for _ in range(9))),
        lambda: b"\xff" * dice.choice((1, 2, 5000)),
        lambda: b"\xff" + bytes([dice.choice((0xD0, 0xD7, 0xD8, 0xD9, 0x01))]),
        lambda: segment(0xFE, dice.junk(100)) * dice.choice((1, 100, 9000)),
        lambda: segment(0xDA, b"\1\1\0" + bytes(dice.number(6) for _ in range(3))) + dice.junk(40),
    )
    return dice.choice(options)()


def riff(kind: bytes, body: bytes) -> bytes:
    """Return a chunk of a WebP."""
    return kind + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)


def _webp(dice: Dice) -> bytes:
    box = b"".join(dice.number(24).to_bytes(3, "little") for _ in range(5))
    options: tuple[Callable[[], bytes], ...] = (
        lambda: riff(dice.choice(_KINDS_WEBP), dice.junk(80)),
        lambda: riff(b"EXIF", odd_exif(dice)),
        lambda: riff(b"EXIF", b"Exif\0\0" + odd_exif(dice)) * dice.choice((1, 3)),
        lambda: riff(b"ICCP", odd_profile(dice)),
        lambda: riff(b"VP8X", bytes([dice.number(8), 0, 0, 0]) + box[:6]),
        lambda: riff(b"ANIM", dice.junk(6)),
        lambda: riff(b"ANMF", box + bytes([dice.number(8)]) + dice.junk(60)),
        lambda: riff(b"ALPH", bytes([dice.number(8)]) + dice.junk(60)),
        lambda: riff(b"abcd", b"") * dice.choice((1, 100, 20_000)),
        lambda: dice.choice(_KINDS_WEBP) + struct.pack("<I", dice.number(32)) + dice.junk(40),
    )
    return dice.choice(options)()


def _gif(dice: Dice) -> bytes:
    where = struct.pack("<4H", *(dice.number(16) for _ in range(4)))
    block = bytes([255]) + bytes(255)
    options: tuple[Callable[[], bytes], ...] = (
        lambda: b"!" + bytes([dice.choice(_EXTENSIONS_GIF), 4]) + dice.junk(4).ljust(4) + b"\0",
        lambda: b"!\xff\x0bNETSCAPE2.0\3\1" + struct.pack("<H", dice.number(16)) + b"\0",
        lambda: b"!\xff\x0bICCRGBG1012" + block * 40 + b"\0",
        lambda: b"!\xfe" + b"\1a" * dice.choice((1, 100, 9999)) + b"\0",
        lambda: b"," + where + bytes([dice.number(8), dice.choice((0, 1, 2, 8, 12, 13, 255))]),
        lambda: b"," + where + b"\0\x08\1\0\0",
        lambda: b"!\xf9\0" * dice.choice((1, 1000)),
        lambda: b"\0" * dice.choice((1, 100)),
        lambda: b";",
    )
    return dice.choice(options)()


def _bmp(dice: Dice) -> bytes:
    options: tuple[Callable[[], bytes], ...] = (
        lambda: dice.junk(64),
        lambda: struct.pack("<I", dice.number(32)) * dice.choice((1, 4)),
        lambda: bytes([0, 2, dice.number(8), dice.number(8)]) * dice.choice((1, 100)),
        lambda: b"\0\0" * dice.choice((1, 1000)),
        lambda: b"\0\1",
    )
    return dice.choice(options)()


ODDITIES: dict[str, Odd] = {"png": _png, "jpeg": _jpeg, "webp": _webp, "gif": _gif, "bmp": _bmp}
