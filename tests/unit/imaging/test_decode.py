"""Bytes -> upright RGB pixels: every kind, every limit, every way to be broken."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from service.config.settings import Settings
from service.errors import PictureTooLarge, UndecodablePicture, UnsupportedFormat
from service.imaging.decode import DEFAULT_MAX_PIXELS, decode
from tests.photographs import CHELSEA, FLOWER


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def cat() -> Image.Image:
    return Image.open(CHELSEA).convert("RGB")


def pixels(data: bytes, **options: Any) -> np.ndarray:
    image = decode(data, **options)
    assert image.mode == "RGB"
    return np.asarray(image)


KINDS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "jpeg": ("RGB", "JPEG", {"quality": 90}),
    "jpeg_progressive": ("RGB", "JPEG", {"progressive": True}),
    "jpeg_gray": ("L", "JPEG", {}),
    "jpeg_cmyk": ("CMYK", "JPEG", {}),
    "png": ("RGB", "PNG", {}),
    "png_palette": ("P", "PNG", {}),
    "png_palette_transparent": ("P", "PNG", {"transparency": 0}),
    "png_alpha": ("RGBA", "PNG", {}),
    "png_gray_alpha": ("LA", "PNG", {}),
    "png_1bit": ("1", "PNG", {}),
    "webp": ("RGB", "WEBP", {}),
    "webp_lossless": ("RGB", "WEBP", {"lossless": True}),
    "webp_alpha": ("RGBA", "WEBP", {}),
    "gif": ("P", "GIF", {}),
    "bmp": ("RGB", "BMP", {}),
    "bmp_palette": ("P", "BMP", {}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_what_a_training_loader_sees(kind: str, cat: Image.Image) -> None:
    mode, name, options = KINDS[kind]
    data = encoded(cat.convert(mode), name, **options)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    np.testing.assert_array_equal(pixels(data), expected)
    # and it is still the cat, not its negative
    reference = np.asarray(cat.convert("L"), float)
    seen = np.asarray(decode(data).convert("L"), float)
    assert np.corrcoef(reference.ravel(), seen.ravel())[0, 1] > 0.2


def test_ycck_jpeg_is_not_inverted(cat: Image.Image) -> None:
    # Adobe's four-channel JPEGs are stored inverted; Pillow writes them so as well
    data = encoded(cat.convert("CMYK"), "JPEG", quality=95)
    assert np.abs(pixels(data).astype(int) - np.asarray(cat)).mean() < 6


def test_16_bit_gray_is_scaled_not_clipped() -> None:
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    data = encoded(Image.fromarray(values), "PNG")
    seen = pixels(data)[..., 0].astype(float)
    np.testing.assert_allclose(seen, values / 257.0, atol=0.5 + 1e-9)


def png(width: int, height: int, depth: int, color: int, raw: bytes) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def test_16_bit_colour_is_scaled() -> None:
    row = b"\0" + struct.pack(">3H", 0, 32768, 65535) + struct.pack(">3H", 300, 40000, 1)
    seen = pixels(png(2, 1, 16, 2, row))
    np.testing.assert_allclose(seen[0], [[0, 127.5, 255], [1.2, 155.6, 0]], atol=1)


def test_16_bit_gray_with_alpha_is_scaled() -> None:
    row = b"\0" + struct.pack(">4H", 32768, 65535, 65535, 0)
    np.testing.assert_allclose(pixels(png(2, 1, 16, 4, row))[0, :, 0], [127.5, 255], atol=1)


def test_the_first_frame_of_an_animation_counts(cat: Image.Image) -> None:
    black = Image.new("RGB", cat.size)
    for kind, options in {"GIF": {}, "WEBP": {"lossless": True}, "PNG": {}}.items():
        data = encoded(cat, kind, save_all=True, append_images=[black], **options)
        several: Any = Image.open(io.BytesIO(data))
        assert several.n_frames == 2
        assert np.abs(pixels(data).astype(int) - np.asarray(cat)).mean() < 10, kind


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_exif_orientation(orientation: int, kind: str) -> None:
    stored = np.zeros((20, 30, 3), np.uint8)
    stored[:10, :15] = 255  # white: top left quarter
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(Image.fromarray(stored), kind, exif=exif, **options)
    upright = pixels(data)
    # EXIF 2.32: where row 0 and column 0 of what is stored lie in what is shown
    turned = orientation >= 5
    assert upright.shape == ((30, 20, 3) if turned else (20, 30, 3))
    white = {1: (0, 0), 2: (0, 1), 3: (1, 1), 4: (1, 0), 5: (0, 0), 6: (0, 1), 7: (1, 1), 8: (1, 0)}
    height, width = upright.shape[:2]
    row, column = white[orientation]
    quarter = upright[row * height // 2 :, column * width // 2 :][: height // 2, : width // 2]
    assert quarter.mean() > 240
    assert upright.mean() < 75
    np.testing.assert_array_equal(
        pixels(data, exif="ignore"), np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    )


def test_a_broken_exif_block_is_ignored(cat: Image.Image) -> None:
    data = encoded(cat, "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff" + b"\xff" * 40)
    assert pixels(data).shape == np.asarray(cat).shape


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP"])
@pytest.mark.parametrize("keep", [0.02, 0.3, 0.5, 0.9, 0.99])
def test_truncated_pictures_are_refused(kind: str, keep: float, cat: Image.Image) -> None:
    data = encoded(cat, kind)
    with pytest.raises(UndecodablePicture):
        decode(data[: int(len(data) * keep)])


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_a_missing_end_is_refused_where_pillow_refuses_it(kind: str, cat: Image.Image) -> None:
    with pytest.raises(UndecodablePicture):
        decode(encoded(cat, kind)[:-1])


def test_what_is_no_picture() -> None:
    with pytest.raises(UndecodablePicture, match="empty"):
        decode(b"")
    for data in (
        b"\0",
        b"hello",
        b"\xff\xd8",
        bytes(range(256)),
        b"<svg/>",
        b"II*\0" + bytes(50),
        b"P6 1 1 255 abc",
    ):
        with pytest.raises(UnsupportedFormat):
            decode(data)
    for head in (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\x10\0\0\0WEBP", b"GIF89a", b"BM"):
        for body in (b"", b"\0" * 100, b"\xff" * 100):
            with pytest.raises(UndecodablePicture):
                decode(head + body)


def test_other_formats_that_pillow_knows_are_refused(cat: Image.Image) -> None:
    for kind in ("TIFF", "PPM", "TGA", "ICO", "JPEG2000"):
        with pytest.raises(UnsupportedFormat):
            decode(encoded(cat.resize((64, 64)), kind))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP"])
def test_the_pixel_limit_just_below_at_and_above(kind: str) -> None:
    data = encoded(Image.new("RGB", (40, 25)), kind)
    assert decode(data, max_pixels=1001).size == (40, 25)
    assert decode(data, max_pixels=1000).size == (40, 25)
    with pytest.raises(PictureTooLarge, match="40x25 = 1000 pixels, the limit is 999"):
        decode(data, max_pixels=999)


@pytest.mark.parametrize("size", [(8160, 6144), (8192, 6144), (9248, 6944)])
def test_what_telephones_send_is_below_the_limit_as_it_comes(size: tuple[int, int]) -> None:
    limit = Settings().max_pixels
    assert limit == DEFAULT_MAX_PIXELS
    assert decode(encoded(Image.new("L", size), "JPEG"), max_pixels=limit).size == size
    with pytest.raises(PictureTooLarge, match="the limit is 67108864"):
        decode(png(8192, 8193, 8, 0, b""), max_pixels=limit)


def test_a_bomb_is_refused_by_its_header() -> None:
    bomb = png(65535, 65535, 8, 2, b"")
    with pytest.raises(PictureTooLarge):
        decode(bomb)
    webp = b"RIFF\x1e\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + b"\xff\x3f\0" * 2 + bytes(8)
    with pytest.raises(PictureTooLarge):
        decode(webp)


def test_one_pixel() -> None:
    for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP"):
        assert decode(encoded(Image.new("RGB", (1, 1)), kind)).size == (1, 1)


def test_a_view_is_as_good_as_bytes() -> None:
    data = FLOWER.read_bytes()
    np.testing.assert_array_equal(pixels(data), np.asarray(decode(memoryview(b"x" + data)[1:])))
