"""What Pillow reads is read, with the same pixels, however broken the file is around them."""

from __future__ import annotations

import io
import random
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from PIL import Image

from loadtests.fuzz.chunks import split
from loadtests.fuzz.oddities import segment
from loadtests.fuzz.seeds import FORMATS, chunk, seeds
from service.errors import UndecodablePicture, ZooError
from service.imaging.decode import _ORIENTATIONS, decode
from service.imaging.formats import walk
from tests.photographs import CHELSEA

KINDS = tuple(kind.upper() for kind in FORMATS)
JUNK = (b"\0", bytes(7), b"\xff\xff", b"abc", b"\xff\0", b"\xff\xd9", b"!", b",", b";", bytes(1200))


@pytest.fixture(scope="module")
def cat() -> Image.Image:
    whole = Image.open(CHELSEA).convert("RGB")
    whole.info = {}
    return whole


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def by_pillow(data: bytes) -> tuple[Image.Image, int] | None:
    """The pixels and the orientation that a training loader gets, or None."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(io.BytesIO(data), formats=KINDS) as image:
                image.load()
                if image.mode.startswith("I"):
                    return None  # 16-bit gray is scaled here, and clipped there
                pixels = image.convert("RGB")
                try:
                    return pixels, image.getexif().get(0x0112, 1)
                except Exception:  # noqa: BLE001
                    return pixels, 1
        except Exception:  # noqa: BLE001  whatever it does not read
            return None


def assert_the_same(data: bytes, name: object) -> bool:
    """Whether Pillow reads it; then it must be read here, with the same pixels."""
    theirs = by_pillow(data)
    if theirs is None:
        with suppress(ZooError):
            decode(data)
        return False
    pixels, orientation = theirs
    if orientation in _ORIENTATIONS:
        pixels = pixels.transpose(_ORIENTATIONS[orientation])
    np.testing.assert_array_equal(np.asarray(decode(data)), np.asarray(pixels), str(name))
    return True


def changed(chance: random.Random, kind: str, data: bytes) -> Iterator[tuple[str, bytes]]:
    """The file cut, with junk between its parts, without some, with wrong bytes, and so on."""
    length, parts = len(data), split(kind, data)
    for _ in range(4):
        yield "cut", data[: chance.randrange(length)]
        yield "end missing", data[: -chance.randrange(1, 24)]
        at = chance.randrange(length)
        yield "a wrong byte", data[:at] + chance.randbytes(1) + data[at + 1 :]
        yield "more bytes", data[:at] + chance.randbytes(chance.choice((1, 2, 4))) + data[at:]
        yield "less bytes", data[:at] + data[at + chance.choice((1, 2, 4)) :]
        at = chance.randrange(1, len(parts) + 1)
        yield "junk", b"".join((*parts[:at], chance.choice(JUNK), *parts[at:]))
        at, to = chance.randrange(1, len(parts) + 1), chance.randrange(1, len(parts) + 1)
        yield "without a part", b"".join(parts[: at - 1] + parts[at:])
        yield "a part twice", b"".join((*parts[:at], parts[at - 1], *parts[at:]))
        exchanged = list(parts)
        exchanged[at - 1], exchanged[to - 1] = exchanged[to - 1], exchanged[at - 1]
        yield "exchanged parts", b"".join(exchanged)
    yield "a trailer", data + chance.choice((bytes(50), b"junk", data))


@pytest.mark.parametrize("kind", FORMATS)
def test_changed_files_are_read_where_pillow_reads_them(kind: str) -> None:
    chance = random.Random(18)
    read = tried = 0
    for number, data in enumerate(seeds(kind)):
        for name, other in changed(chance, kind, data):
            tried += 1
            read += assert_the_same(other, (number, name))
    assert read > tried / 5, (read, tried)


def animation(cat: Image.Image) -> bytes:
    second = cat.rotate(90).quantize(64)
    return encoded(
        cat.quantize(64), "GIF", save_all=True, append_images=[second], disposal=1, optimize=False
    )


def test_a_gif_without_an_end_or_with_a_broken_second_frame(cat: Image.Image) -> None:
    one, two = encoded(cat.quantize(), "GIF"), animation(cat)
    second = two.rindex(b"!\xf9\4")
    for data in (
        one[:-1],
        one[:-1] + bytes(200),
        two[:second] + b"\0" + two[second:],
        two[:second] + b"rubbish",
        two[: second + 20],
    ):
        assert assert_the_same(data, "gif")
    first = one.index(b",", 13 + 768)
    for junk in (b"\0", bytes(3000), b"\0a" * 50_000):
        assert assert_the_same(one[:first] + junk + one[first:], "zeros before the first frame")


BIG = b"x" * (1 << 20) + b"yz"
ANCILLARY = {
    "zTXt": chunk(b"zTXt", b"Comment\0\0" + zlib.compress(BIG)),
    "zTXt method": chunk(b"zTXt", b"Comment\0\7" + zlib.compress(b"text")),
    "iTXt": chunk(b"iTXt", b"workflow\0\1\0\0\0" + zlib.compress(BIG)),
    "XMP": chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(BIG)),
    "iCCP": chunk(b"iCCP", b"icc\0\0" + zlib.compress(BIG)),
    "pHYs checksum": chunk(b"pHYs", struct.pack(">IIB", 2835, 2835, 1))[:-1] + b"\0",
    "pHYs short": chunk(b"pHYs", b"\0"),
    "iCCP checksum": chunk(b"iCCP", b"icc\0\0" + zlib.compress(b"p" * 400))[:-1] + b"\0",
    "eXIf checksum": chunk(b"eXIf", b"MM\0*\0\0\0\x08\0\0")[:-1] + b"\0",
    "gAMA checksum": chunk(b"gAMA", struct.pack(">I", 45455))[:-1] + b"\0",
    "gAMA short": chunk(b"gAMA", b"\0"),
    "many": chunk(b"tEXt", b"Comment\0text") * 50_000,
}


@pytest.mark.parametrize("name", ANCILLARY)
def test_a_png_is_read_whatever_its_ancillary_chunks_are(name: str, cat: Image.Image) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    data = encoded(cat, "PNG", exif=turned)
    expected = np.asarray(cat.transpose(Image.Transpose.ROTATE_270))
    for place in (33, len(data) - 12):
        odd = data[:place] + ANCILLARY[name] + data[place:]
        np.testing.assert_array_equal(np.asarray(decode(odd)), expected)
        np.testing.assert_array_equal(np.asarray(decode(odd[:-12])), expected)  # without IEND


@pytest.mark.parametrize("level", [0, 6])
def test_a_png_with_a_chunk_for_every_few_bytes(level: int) -> None:
    image = Image.effect_noise((99, 70), 90)
    rows = b"".join(b"\0" + image.crop((0, y, 99, y + 1)).tobytes() for y in range(70))
    packed = zlib.compress(rows, level)
    chunks = b"".join(chunk(b"IDAT", packed[at : at + 2]) for at in range(0, len(packed), 2))
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 99, 70, 8, 0, 0, 0, 0))
    data = b"\x89PNG\r\n\x1a\n" + head + chunks + chunk(b"IEND", b"")
    for whole in (data, data[:-12], data[:33] + ANCILLARY["iTXt"] + data[33:]):
        assert np.array_equal(np.asarray(decode(whole))[..., 0], np.asarray(image))
    with pytest.raises(UndecodablePicture):
        decode(data[:-1000])


def test_nothing_is_copied_where_nothing_is_left_out(cat: Image.Image) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    for kind, options in (
        ("JPEG", {"exif": turned, "icc_profile": bytes(3000), "comment": b"a comment"}),
        ("PNG", {}),
        ("GIF", {}),
        ("BMP", {}),
        ("WEBP", {}),
    ):
        assert walk(kind, encoded(cat, kind, **options)).kept is None, kind


def tiff(orientation: int, more: int = 0, order: str = "<") -> bytes:
    """An EXIF block with ``more`` entries before the orientation, each of which points to much."""
    entries = [struct.pack(order + "HHII", 0x9000 + i, 7, 60_000, 8) for i in range(more)]
    entries.append(struct.pack(order + "HHIHH", 0x0112, 3, 1, orientation, 0))
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, len(entries))
    return head + b"".join(entries) + bytes(4)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("more", [0, 3000])
def test_the_orientation_is_that_of_the_first_block_whatever_else_there_is(
    more: int, order: str, cat: Image.Image
) -> None:
    small = cat.resize((64, 48))
    block, second = tiff(6, more, order), tiff(3)
    jpeg, png, webp = (encoded(small, kind) for kind in ("JPEG", "PNG", "WEBP"))
    exif = segment(0xE1, b"Exif\0\0" + block)
    marks = [
        exif,
        exif + segment(0xE1, b"Exif\0\0" + second),
        exif + segment(0xE1, b"Exif\0\0" + bytes(60_000)) * 100,
        segment(0xFE, b"a comment") * 1000 + exif,
        exif + segment(0xE2, b"MPF\0" + tiff(1, 3000)),
    ]
    webp = encoded(small, "WEBP", exif=block)
    files = [jpeg[:2] + mark + jpeg[2:] for mark in marks]
    files += [png[:33] + chunk(b"eXIf", block) + png[33:], webp]
    for data in files:
        stored = Image.open(io.BytesIO(data)).convert("RGB")
        expected = np.asarray(stored.transpose(Image.Transpose.ROTATE_270))
        np.testing.assert_array_equal(np.asarray(decode(data)), expected)


def test_an_orientation_in_xmp_stays_when_metadata_is_left_out(cat: Image.Image) -> None:
    data = encoded(cat, "JPEG")
    xmp = segment(0xE1, b'http://ns.adobe.com/xap/1.0/\0<x tiff:Orientation="6"/>')
    for more in (b"", segment(0xFE, bytes(60_000)) * 10, segment(0xE2, bytes(100)) * 100):
        assert decode(data[:2] + xmp + more + data[2:]).size == cat.size[::-1]
        assert assert_the_same(data[:2] + more + xmp + data[2:], len(more))


def test_the_colours_stay_when_metadata_is_left_out(cat: Image.Image) -> None:
    more = segment(0xE5, bytes(60_000)) * 10
    for data in (encoded(cat.convert("CMYK"), "JPEG"), encoded(cat, "JPEG", keep_rgb=True)):
        assert assert_the_same(data[:2] + more + data[2:], "before")
        at = data.index(b"\xff\xdb")
        assert assert_the_same(data[:at] + more + data[at:], "behind")


@pytest.mark.parametrize("first", [b"", b"\xff", b"\xff\xff", b"\xff\0"])
@pytest.mark.parametrize("second", [b"", b"x", b"\0\xff", b"\xff\xd0"])
def test_stray_bytes_beside_metadata_that_is_left_out(
    first: bytes, second: bytes, cat: Image.Image
) -> None:
    data = encoded(cat.resize((64, 48)), "JPEG")
    comments = segment(0xFE, bytes(100)) * 50
    for lead in (b"", segment(0xDD, b"\0\0")):
        for more in (first + comments + second + comments, comments + second + comments + first):
            assert assert_the_same(data[:2] + lead + more + data[2:], more[-9:])


def test_tables_may_come_in_a_stream_of_their_own(cat: Image.Image) -> None:
    # ITU-T T.81, annex B.5: libjpeg reads on behind the end of an abbreviated stream
    data = encoded(cat, "JPEG")
    table = data[data.index(b"\xff\xdb") :][:69]
    assert assert_the_same(b"\xff\xd8" + table + b"\xff\xd9" + data, "tables")
