"""Bytes of one picture -> upright RGB pixels, with limits.

What a training loader does (``PIL.Image.open(f).convert("RGB")``) is the rule for every mode but
one: Pillow clips 16-bit gray to 255, here it is scaled. Nothing is decoded before the format and
the announced size are known to be allowed.
"""

from __future__ import annotations

import io
import warnings
from typing import Literal

import numpy as np
from PIL import Image, UnidentifiedImageError

from service.containers import FORMATS, check_structure, format_of, webp_size
from service.errors import PictureTooLarge, UndecodablePicture, UnsupportedFormat

Exif = Literal["apply", "ignore"]

DEFAULT_MAX_PIXELS = 50_000_000
MAX_SIDE = 100_000
"""Pillow keeps a pointer and some padding per row: 1 x 50,000,000 pixels would take 1.8 GB."""
_STRIP_PIXELS = 1_000_000

_ORIENTATION_TAG = 0x0112
_ORIENTATIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF 2.32, tag 274: the transposition that makes each orientation upright."""

# Pillow only warns below twice its limit; ours is checked in decode(), before any pixel is made.
Image.MAX_IMAGE_PIXELS = None


def decode(
    data: bytes | bytearray | memoryview,
    *,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    exif: Exif = "apply",
    at_least: int | None = None,
) -> Image.Image:
    """Decode the first frame of a JPEG, PNG, WebP, GIF or BMP into an upright RGB image.

    Returns a Pillow image of mode RGB (uint8, height x width x 3). ``exif="ignore"`` leaves the
    pixels as stored, as most benchmark loaders do. ``at_least`` allows a JPEG to be decoded at a
    half, a quarter or an eighth of its size (of each 8x8 block only the low frequencies) as long
    as no side has fewer pixels than that; limits hold for the size it announces.

    Raises UnsupportedFormat when the bytes are none of these formats, PictureTooLarge when the
    header announces more than ``max_pixels``, UndecodablePicture when the picture is empty,
    broken or truncated.
    """
    if len(data) == 0:
        raise UndecodablePicture("the picture is empty (0 bytes)")
    kind = format_of(data)
    if kind is None:
        raise UnsupportedFormat(f"the picture is none of {', '.join(FORMATS)}")
    data = bytes(data)
    if kind == "WEBP":
        _check_size(webp_size(data), max_pixels)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=[kind]) as image:
                _check_size(image.size, max_pixels)
                check_structure(kind, data)
                if at_least is not None:
                    image.draft(None, (at_least, at_least))  # does nothing but for a JPEG
                image.load()
                rgb = _to_rgb(image)
                return _upright(rgb, image) if exif == "apply" else rgb
    except (PictureTooLarge, UndecodablePicture):
        raise
    except Exception as error:
        # Pillow's plugins raise whatever comes to hand: OSError, SyntaxError, struct.error, ...
        known = not isinstance(error, UnidentifiedImageError)  # its text has our own addresses
        reason = str(error) if known else "its header is broken"
        raise UndecodablePicture(f"the {kind} picture cannot be decoded: {reason}") from error


def _check_size(size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise UndecodablePicture(f"the picture has no pixels ({width}x{height})")
    if max(width, height) > MAX_SIDE:
        raise PictureTooLarge(
            f"the picture has {width}x{height} pixels, the limit of a side is {MAX_SIDE}"
        )
    if width * height > max_pixels:
        raise PictureTooLarge(
            f"the picture has {width}x{height} = {width * height} pixels, the limit is {max_pixels}"
        )


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    if not image.mode.startswith("I"):
        return image.convert("RGB")
    # 16-bit gray: 65535 -> 255, rounded; in strips, since every step needs wider numbers
    wide = np.asarray(image)
    gray = np.empty(wide.shape, np.uint8)
    rows = max(1, _STRIP_PIXELS // image.width)
    for top in range(0, image.height, rows):
        strip = np.clip(wide[top : top + rows], 0, 65535).astype(np.uint32)
        gray[top : top + rows] = (strip + 128) // 257
    return Image.fromarray(gray).convert("RGB")


def _upright(rgb: Image.Image, original: Image.Image) -> Image.Image:
    try:
        orientation = original.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:  # noqa: BLE001
        return rgb  # a broken EXIF block says nothing about the pixels
    method = _ORIENTATIONS.get(orientation) if isinstance(orientation, int) else None
    return rgb if method is None else rgb.transpose(method)
