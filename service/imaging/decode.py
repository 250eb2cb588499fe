"""Decodes the bytes of one picture into upright RGB pixels, within limits.

The pixels are those of a training loader (``PIL.Image.open(f).convert("RGB")``) for every mode but
one: 16-bit gray is scaled to 255, where Pillow clips it. Nothing is decoded before the format and
the announced size are known to be allowed.
"""

from __future__ import annotations

import io
import warnings
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from service.errors import PictureTooLarge, UndecodablePicture, UnsupportedFormat
from service.imaging import mistaken, unreadable
from service.imaging.exif import shortened
from service.imaging.formats import assembled, format_of, walk

Exif = Literal["apply", "ignore"]

DEFAULT_MAX_PIXELS = 1 << 26
MAX_SIDE = 100_000
"""The most pixels of a side: Pillow keeps a pointer and some padding per row, so that a picture of
1 x 50,000,000 pixels would take 1.8 GB."""
_STRIP_PIXELS = 1_000_000
"""About how many pixels of 16-bit gray are converted at a time."""

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
) -> Image.Image:
    """Decode the first frame of a JPEG, PNG, WebP, GIF or BMP into an upright RGB image.

    Returns a Pillow image of mode RGB (uint8, height x width x 3). ``exif="ignore"`` leaves the
    pixels as stored, as most benchmark loaders do.

    Raises UnsupportedFormat when the bytes are none of these formats, PictureTooLarge when the
    header announces more than ``max_pixels``, UndecodablePicture when the picture is empty,
    broken or truncated.
    """
    return decode_scaled(data, None, max_pixels=max_pixels, exif=exif).image


class Scaled(NamedTuple):
    """A picture, which may have been decoded at a fraction of its size."""

    image: Image.Image
    """Mode RGB, upright; its sides are those of the picture divided by 1, 2, 4 or 8, rounded up."""
    size: tuple[int, int]
    """(width, height) of the picture at full scale, upright."""
    frame: tuple[float, float, float, float]
    """Left, top, right and bottom edge of the picture in pixels of ``image``, which are fractions
    where the division by the scale was rounded up."""


def decode_scaled(
    data: bytes | bytearray | memoryview,
    at_least: int | None,
    *,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    exif: Exif = "apply",
) -> Scaled:
    """Decode as `decode` does, but a JPEG at a half, a quarter or an eighth of its size if it may.

    The JPEG decoder then uses the low frequencies of each 8x8 block alone. The scale is the
    smallest that leaves each side ``at_least`` pixels; None keeps every picture at full scale.
    ``max_pixels`` is compared with the size that the file announces. Raises what `decode` raises.
    """
    if len(data) == 0:
        raise UndecodablePicture("the picture is empty (0 bytes)")
    kind = format_of(data)
    if kind is None:
        raise UnsupportedFormat(mistaken.sentence(data) or unreadable.unsupported(data))
    file = bytes(data)
    # on opening a file Pillow already does work without a limit: the walk bounds it beforehand
    found = walk(kind, file)
    if found.size is not None:
        _check_size(found.size, max_pixels)
    if found.kept is not None:
        del file  # it may be a copy, whose memory is freed before the next one is made
        file = assembled(data, found.kept)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(file), formats=[kind]) as image:
                _check_size(image.size, max_pixels)
                size = image.size
                if at_least is not None and kind == "JPEG":
                    image.draft(None, (at_least, at_least))
                scale = round(size[0] / image.width)
                image.load()
                orientation = _orientation(image) if exif == "apply" else 1
                return _upright(_to_rgb(image), orientation, size, scale)
    except (PictureTooLarge, UndecodablePicture):
        raise
    except Exception as error:
        # Pillow's plugins raise whatever comes to hand: OSError, SyntaxError, struct.error, ...
        reason = unreadable.reason(kind, data)
        if reason is None:
            # the text of an UnidentifiedImageError shows an address in our memory
            known = not isinstance(error, UnidentifiedImageError)
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
    # 16-bit gray: 65535 becomes 255; in strips, since the steps between take four bytes a pixel
    wide = np.asarray(image)
    gray = np.empty(wide.shape, np.uint8)
    rows = max(1, _STRIP_PIXELS // image.width)
    for top in range(0, image.height, rows):
        strip = np.clip(wide[top : top + rows], 0, 65535).astype(np.uint32)
        gray[top : top + rows] = (strip + 128) // 257
    return Image.fromarray(gray).convert("RGB")


def _orientation(image: Image.Image) -> int:
    try:
        if block := image.info.get("exif"):
            image.info["exif"] = shortened(block)
        orientation = image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:  # noqa: BLE001
        return 1  # a broken EXIF block says nothing about the pixels
    return orientation if orientation in _ORIENTATIONS else 1


def _upright(rgb: Image.Image, orientation: int, size: tuple[int, int], scale: int) -> Scaled:
    if orientation > 1:
        rgb = rgb.transpose(_ORIENTATIONS[orientation])
    if orientation >= 5:
        size = size[::-1]
    width, height = size[0] / scale, size[1] / scale
    # rounding up added a part of a pixel behind the last one, as the file has them
    left = rgb.width - width if orientation in (2, 3, 6, 7) else 0.0
    top = rgb.height - height if orientation in (3, 4, 7, 8) else 0.0
    return Scaled(rgb, size, (left, top, left + width, top + height))
