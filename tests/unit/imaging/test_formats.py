"""Files that ask for more work than their size says, and odd ones that are whole."""

from __future__ import annotations

import io
import resource
import struct
import time
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from service.errors import PictureTooLarge, UndecodablePicture
from service.imaging.decode import MAX_SIDE, decode
from service.imaging.formats import (
    MAX_BLOCKS,
    MAX_EXTENSION_BLOCKS,
    MAX_FILL_BYTES,
    MAX_JPEG_SCANS,
    MAX_STRAY_BYTES,
    MAX_TABLE_BYTES,
)
from service.imaging.png import MAX_CHUNKS, MAX_KEPT_CHUNKS
from tests.photographs import CHELSEA


@pytest.fixture(scope="module")
def cat() -> Image.Image:
    return Image.open(CHELSEA).convert("RGB")


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def scans(data: bytes, count: int) -> bytes:
    """A progressive JPEG with a scan that says nothing about any block, repeated."""
    table = b"\xff\xc4" + struct.pack(">HB", 20, 0x10) + bytes([1] + [0] * 15) + b"\xe0"
    scan = table + b"\xff\xda" + struct.pack(">HBBBBBB", 8, 1, 1, 0x00, 1, 63, 0) + b"\x7f" * 3
    return data[:-2] + scan * count + b"\xff\xd9"


def test_a_jpeg_of_many_scans_is_refused(cat: Image.Image) -> None:
    data = encoded(cat, "JPEG", progressive=True)
    own = data.count(b"\xff\xda")
    most = scans(data, MAX_JPEG_SCANS - own)
    assert most.count(b"\xff\xda") == MAX_JPEG_SCANS
    np.testing.assert_array_equal(np.asarray(decode(most)), np.asarray(decode(data)))
    with pytest.raises(UndecodablePicture, match="more than 100 scans"):
        decode(scans(data, MAX_JPEG_SCANS - own + 1))
    started = time.thread_time()
    with pytest.raises(UndecodablePicture, match="scans"):
        decode(scans(data, 100_000))
    assert time.thread_time() - started < 5


def test_what_follows_a_jpeg_is_not_looked_at(cat: Image.Image) -> None:
    # phones append a video to a photograph, and cameras a preview
    data = encoded(cat, "JPEG")
    whole = decode(data + b"\xff\xda\0\x08" * 1000 + b"\xff\xd8\xff")
    np.testing.assert_array_equal(np.asarray(whole), np.asarray(decode(data)))
    assert decode(encoded(cat, "MPO", save_all=True, append_images=[cat])).size == cat.size


@pytest.mark.parametrize("segment", [b"\xff\xfe\0\2", b"\xff\xe5\0\2", b"\xff\xe5\0\x03x"])
def test_a_jpeg_of_many_segments(cat: Image.Image, segment: bytes) -> None:
    data = encoded(cat, "JPEG")
    pixels = np.asarray(decode(data))
    for count in (1, 100, 20_000):
        many = data[:2] + segment * count + data[2:]
        np.testing.assert_array_equal(np.asarray(decode(many)), pixels)
    place = 2 if len(segment) > 4 else len(data) - 2
    with pytest.raises(UndecodablePicture, match="more than 200000 segments"):
        decode(data[:place] + segment * MAX_BLOCKS + data[place:])


def test_a_jpeg_of_many_segments_that_are_needed_is_refused(cat: Image.Image) -> None:
    data = encoded(cat, "JPEG")
    restarts = b"\xff\xdd\0\4\0\0"
    assert decode(data[:2] + restarts * 9000 + data[2:]).size == cat.size
    with pytest.raises(UndecodablePicture, match="more than 10000 segments"):
        decode(data[:2] + restarts * MAX_EXTENSION_BLOCKS + data[2:])


@pytest.mark.parametrize("table", [b"\xff\xdb\0\x43\0" + b"\1" * 64, b"\xff\xdb\0\2"])
def test_a_jpeg_of_many_tables_is_refused(cat: Image.Image, table: bytes) -> None:
    data = encoded(cat, "JPEG")
    most = (MAX_TABLE_BYTES - 1000) // (len(table) + 200)
    assert decode(data[:2] + table * most + data[2:]).size == cat.size
    with pytest.raises(UndecodablePicture, match=r"bytes of tables|segments"):
        decode(data[:2] + table * (MAX_TABLE_BYTES // len(table) + 1) + data[2:])


def test_fill_bytes_in_a_row_among_the_scans_of_a_jpeg(cat: Image.Image) -> None:
    # libjpeg begins anew with all of them for each 64 KB: 32 MB took 12 s
    data = encoded(cat, "JPEG")
    most = data[:-2] + b"\xff" * (MAX_FILL_BYTES - 1) + data[-2:]
    np.testing.assert_array_equal(np.asarray(decode(most)), np.asarray(decode(data)))
    np.testing.assert_array_equal(
        np.asarray(decode(data + b"\xff" * 100_000)), np.asarray(decode(data))
    )
    comment = b"\xff\xfe\xff\xff" + b"\xff" * 65533
    assert decode(data[:-2] + comment + data[-2:]).size == cat.size
    with pytest.raises(UndecodablePicture, match="more than 1024 fill bytes in a row"):
        decode(data[:-2] + b"\xff" * (MAX_FILL_BYTES + 2) + data[-2:])


def test_a_png_of_many_chunks(cat: Image.Image) -> None:
    data = encoded(cat, "PNG")
    chunk = struct.pack(">I", 0) + b"abCd" + struct.pack(">I", zlib.crc32(b"abCd"))
    for place in (33, len(data) - 12):
        assert decode(data[:place] + chunk * (MAX_CHUNKS - 50) + data[place:]).size == cat.size
        with pytest.raises(UndecodablePicture, match="more than 100000 chunks"):
            decode(data[:place] + chunk * MAX_CHUNKS + data[place:])
    body = b"tRNS" + bytes(6)
    needed = struct.pack(">I", 6) + body + struct.pack(">I", zlib.crc32(body))
    with pytest.raises(UndecodablePicture, match="more than 10000 chunks"):
        decode(data[:33] + needed * MAX_KEPT_CHUNKS + data[33:])


def test_a_gif_of_many_blocks(cat: Image.Image) -> None:
    data = encoded(cat.quantize(), "GIF")
    pixels = np.asarray(decode(data))
    place = data.index(b",", 13 + 768)
    comment = b"!\xfe" + b"\x01a" * 100 + b"\0"
    long = b"!\xfe" + b"\x01a" * 100_000 + b"\0"
    for many in (comment, comment * 1000, long):
        with_more = data[:place] + many + data[place:]
        np.testing.assert_array_equal(np.asarray(decode(with_more)), pixels)
    for bomb in (long * 2, comment * (MAX_BLOCKS // 100)):
        with pytest.raises(UndecodablePicture, match="more than 200000 blocks"):
            decode(data[:place] + bomb + data[place:])


def test_a_webp_of_many_chunks(cat: Image.Image) -> None:
    # its decoder keeps some 50 bytes for each: 32 MB took 190 MB
    data = encoded(cat.resize((64, 48)), "WEBP", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0")
    assert data[12:16] == b"VP8X"
    for count, allowed in ((1000, True), (MAX_BLOCKS, False)):
        body = data[12:] + b"abcd\0\0\0\0" * count
        many = b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body
        if allowed:
            assert decode(many).size == (64, 48)
        else:
            with pytest.raises(UndecodablePicture, match="more than 200000 chunks"):
                decode(many)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP"])
@pytest.mark.parametrize("junk", [b"\r\n", bytes(5000), b"\xaa" * 5000], ids=["line", "0", "aa"])
def test_junk_behind_the_end_is_harmless(cat: Image.Image, kind: str, junk: bytes) -> None:
    data = encoded(cat, kind)
    np.testing.assert_array_equal(np.asarray(decode(data + junk)), np.asarray(decode(data)))


def rle_bmp(width: int, height: int) -> bytes:
    """Black rows, each of runs of at most 255 pixels."""
    runs, left = b"", width
    while left:
        runs += bytes([min(left, 255), 0])
        left -= min(left, 255)
    pixels = (runs + b"\0\0") * height + b"\0\1"
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(pixels), 0, 0, 256, 0)
    palette = bytes(1024)
    offset = 14 + len(head) + len(palette)
    file = b"BM" + struct.pack("<IHHI", offset + len(pixels), 0, 0, offset)
    return file + head + palette + pixels


def test_run_length_encoded_bmp() -> None:
    assert decode(rle_bmp(300, 200)).size == (300, 200)
    assert decode(rle_bmp(1000, 1000)).size == (1000, 1000)
    for width, height in ((1000, 1001), (7000, 7000)):
        with pytest.raises(PictureTooLarge, match="run-length"):
            decode(rle_bmp(width, height))
    with pytest.raises(PictureTooLarge, match="run-length"):
        decode(rle_bmp(10, 10) + bytes(2_000_000))


def test_the_limit_of_a_side() -> None:
    assert decode(encoded(Image.new("L", (MAX_SIDE, 1)), "PNG")).size == (MAX_SIDE, 1)
    for size in ((MAX_SIDE + 1, 1), (1, MAX_SIDE + 1)):
        with pytest.raises(PictureTooLarge, match="side"):
            decode(encoded(Image.new("L", size), "PNG"))


def test_16_bit_gray_of_several_strips() -> None:
    values = np.random.default_rng(0).integers(0, 65536, (1500, 1001), dtype=np.uint16)
    seen = np.asarray(decode(encoded(Image.fromarray(values), "PNG")))[..., 0]
    np.testing.assert_allclose(seen, values / 257.0, atol=0.5 + 1e-9)


@pytest.mark.parametrize(
    "stray", [b"\xff", b"\xff\0", b"\xff\xd0"], ids=["fill", "zero", "restart"]
)
def test_stray_bytes_before_the_first_scan_of_a_jpeg(cat: Image.Image, stray: bytes) -> None:
    # Pillow steps over each in Python: 30 MB of them took 18 s
    data = encoded(cat, "JPEG")
    most = data[:2] + stray * (MAX_STRAY_BYTES // len(stray)) + data[2:]
    np.testing.assert_array_equal(np.asarray(decode(most)), np.asarray(decode(data)))
    with pytest.raises(UndecodablePicture, match="stray bytes"):
        decode(data[:2] + stray + most[2:])


def test_what_pillow_reads_as_stray_bytes_is_counted_so(cat: Image.Image) -> None:
    data = encoded(cat, "JPEG")
    segment = b"\xff\xf3" + struct.pack(">H", 20_000) + bytes(19_998)
    with pytest.raises(UndecodablePicture, match="stray bytes"):
        decode(data[:2] + segment + data[2:])
    with pytest.raises(UndecodablePicture, match="stray bytes"):
        decode(data[:2] + b"\xff\xd9" + b"\xff" * 100_000 + data[2:])


def test_a_file_is_walked_before_pillow_opens_it() -> None:
    # Pillow would read all of them, in Python, before it missed the header
    chunk = struct.pack(">I", 0) + b"abCd" + struct.pack(">I", zlib.crc32(b"abCd"))
    with pytest.raises(UndecodablePicture, match="more than 100000 chunks"):
        decode(b"\x89PNG\r\n\x1a\n" + chunk * (MAX_CHUNKS + 1))


def gif(canvas: tuple[int, int], frame: tuple[int, int, int, int], before: bytes = b"") -> bytes:
    """Black pixels; the frame is left, top, width, height."""
    head = b"GIF89a" + struct.pack("<HH", *canvas) + b"\x80\0\0" + bytes(6)
    image = b"," + struct.pack("<4H", *frame) + b"\0\2\2\x44\1\0"
    return head + before + image + b";"


def test_a_frame_that_enlarges_a_gif_is_found_before_its_canvas_is_made() -> None:
    # 12 KB took 3.8 GB and 5 s before they were refused: the frame asks to be disposed of
    asks = b"!\xf9\4\x08\0\0\0\0"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for data in (
        gif((1, 1), (0, 0, 60_000, 60_000), asks),
        gif((1, 1), (60_000, 60_000, 1, 1), asks),
        gif((60_000, 60_000), (0, 0, 1, 1), asks),
    ):
        with pytest.raises(PictureTooLarge, match=r"6000[01]x6000[01]"):
            decode(data)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # KB
    assert decode(gif((1, 1), (0, 0, 1, 1))).size == (1, 1)


@pytest.mark.parametrize("label", [b"\xf9", b"\x01", b"\xff"])
def test_a_frame_that_only_pillow_sees_is_measured(label: bytes) -> None:
    # the empty block ends the extension; Pillow reads one more, and after it this frame
    small = b"," + struct.pack("<4H", 0, 0, 1, 1) + b"\0\2\2\x44\1\0"
    hidden = b"!" + label + b"\0" + bytes([len(small)]) + small + b"\0"
    with pytest.raises(PictureTooLarge, match="60000x60000"):
        decode(gif((1, 1), (0, 0, 60_000, 60_000), before=hidden))


@pytest.mark.parametrize(
    ("before", "most"),
    [
        (b"!\xfe\0", MAX_BLOCKS),
        (b"!\xf9\4" + bytes(5), MAX_EXTENSION_BLOCKS // 2),
        (b"!\xff\x0bNETSCAPE2.0\3\1\0\0\0", MAX_BLOCKS // 3),
    ],
)
def test_extensions_before_the_first_frame_of_a_gif(before: bytes, most: int) -> None:
    assert decode(gif((1, 1), (0, 0, 1, 1), before * most)).size == (1, 1)
    with pytest.raises(UndecodablePicture, match="blocks"):
        decode(gif((1, 1), (0, 0, 1, 1), before * (most + 1)))
    with pytest.raises(UndecodablePicture, match="no image where one should be"):
        decode(b"GIF89a" + bytes(100_000))


def test_the_colour_around_the_first_frame_of_a_gif_stays_when_comments_are_left_out() -> None:
    frame = gif((9, 9), (3, 3, 1, 1), b"!\xf9\4\1\0\0\1\0")
    colours = frame[:13] + b"\xff\0\0" + b"\0\xff\0" + frame[19:]
    assert decode(colours).getpixel((0, 0)) == (0, 255, 0)
    more = colours[:19] + b"!\xfe\1a\0" * 2000 + colours[19:]
    np.testing.assert_array_equal(np.asarray(decode(more)), np.asarray(decode(colours)))
