"""What the walk through a file knows before a decoder opens it: its canvas, what is left out."""

from __future__ import annotations

import io
import struct

import pytest
from PIL import Image

from service.imaging.formats import MAX_METADATA_BYTES, MAX_METADATA_SEGMENTS, assembled, walk

COMMENT = 0xFE


def jpeg() -> bytes:
    file = io.BytesIO()
    Image.effect_noise((40, 30), 80).convert("RGB").save(file, "JPEG")
    return file.getvalue()


def with_comments(data: bytes, count: int, size: int) -> bytes:
    """So many comments of ``size`` bytes each, their length included, behind the start."""
    comment = struct.pack(">BBH", 0xFF, COMMENT, size) + b"c" * (size - 2)
    return data[:2] + comment * count + data[2:]


@pytest.mark.parametrize(
    ("count", "size", "left_out"),
    [
        (0, 0, False),
        (MAX_METADATA_SEGMENTS - 1, 10, False),  # JFIF's own segment says what colours mean
        (MAX_METADATA_SEGMENTS, 10, False),
        (MAX_METADATA_SEGMENTS + 1, 10, True),
        (10_000, 10, True),
        (4, MAX_METADATA_BYTES // 4 - 2, False),  # the marker has two bytes more
        (4, MAX_METADATA_BYTES // 4 - 1, True),
    ],
)
def test_much_metadata_is_left_out_and_the_pixels_stay(
    count: int, size: int, left_out: bool
) -> None:
    plain = jpeg()
    data = with_comments(plain, count, size) if count else plain
    kept = walk("JPEG", data).kept
    assert (kept is not None) is left_out
    if kept is not None:
        short = assembled(data, kept)
        assert len(short) == len(plain)
        with Image.open(io.BytesIO(short)) as one, Image.open(io.BytesIO(plain)) as other:
            assert one.tobytes() == other.tobytes()


@pytest.mark.parametrize(
    ("canvas", "left", "top", "across", "down", "size"),
    [
        ((10, 20), 0, 0, 10, 20, (10, 20)),
        ((10, 20), 3, 4, 5, 6, (10, 20)),
        ((10, 20), 6, 15, 5, 6, (11, 21)),
        ((10, 20), 60_000, 50_000, 1, 1, (60_001, 50_001)),
        ((0, 0), 0, 0, 7, 8, (7, 8)),
    ],
)
def test_a_frame_enlarges_the_canvas_of_a_gif(
    canvas: tuple[int, int],
    left: int,
    top: int,
    across: int,
    down: int,
    size: tuple[int, int],
) -> None:
    """Pillow makes the whole of it as soon as it opens the file: the limit comes before."""
    frame = b"," + struct.pack("<4HB", left, top, across, down, 0)
    data = b"GIF89a" + struct.pack("<2H3B", *canvas, 0, 0, 0) + frame + b"\x02\x02\x4c\x01\0;"
    assert walk("GIF", data).size == size
