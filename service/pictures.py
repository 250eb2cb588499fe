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

from service.errors import PictureTooLarge, UndecodablePicture, UnsupportedFormat

Exif = Literal["apply", "ignore"]

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
DEFAULT_MAX_PIXELS = 50_000_000

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
    if len(data) == 0:
        raise UndecodablePicture("the picture is empty (0 bytes)")
    kind = _format_of(bytes(data[:16]))
    if kind is None:
        raise UnsupportedFormat(f"the picture is none of {', '.join(FORMATS)}")
    if kind == "WEBP":  # Pillow allocates a whole canvas as soon as it opens a WebP
        _check_size(_webp_size(bytes(data[:30])), max_pixels)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=[kind]) as image:
                _check_size(image.size, max_pixels)
                image.load()
                _check_whole(kind, data)
                rgb = _to_rgb(image)
                if exif == "apply":
                    rgb = _upright(rgb, image)
                return rgb
    except (PictureTooLarge, UndecodablePicture):
        raise
    except Exception as error:
        # Pillow's plugins raise whatever comes to hand: OSError, SyntaxError, struct.error, ...
        known = not isinstance(error, UnidentifiedImageError)  # its text has our own addresses
        reason = str(error) if known else "its header is broken"
        raise UndecodablePicture(f"the {kind} picture cannot be decoded: {reason}") from error


def _format_of(head: bytes) -> str | None:
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if head.startswith(b"BM"):
        return "BMP"
    return None


def _check_size(size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise UndecodablePicture(f"the picture has no pixels ({width}x{height})")
    if width * height > max_pixels:
        raise PictureTooLarge(
            f"the picture has {width}x{height} = {width * height} pixels, the limit is {max_pixels}"
        )


def _webp_size(head: bytes) -> tuple[int, int]:
    """Canvas size from the first chunk's header (RFC 9649, sections 2.5 to 2.7)."""
    chunk, body = head[12:16], head[20:30]
    if len(body) == 10:
        if chunk == b"VP8X":
            return 1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little")
        if chunk == b"VP8L":
            bits = int.from_bytes(body[1:5], "little")
            return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
        if chunk == b"VP8 ":
            width, height = body[6:8], body[8:10]
            return (
                int.from_bytes(width, "little") & 0x3FFF,
                int.from_bytes(height, "little") & 0x3FFF,
            )
    raise UndecodablePicture("the WEBP picture's header is broken or truncated")


_PNG_END = b"IEND\xaeB`\x82"
"""PNG's last chunk, which is always empty, with its CRC."""


def _check_whole(kind: str, data: bytes | bytearray | memoryview) -> None:
    """Refuse what Pillow lets pass: all pixels there, but the end of the file missing."""
    tail = bytes(data[-512:])  # junk behind the end is common and harmless
    if (kind == "PNG" and _PNG_END not in tail and _PNG_END not in bytes(data)) or (
        kind == "GIF" and b"\x00;" not in tail
    ):
        raise UndecodablePicture(f"the {kind} picture is truncated: its end is missing")


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit gray: 65535 -> 255, rounded
        wide = np.asarray(image).astype(np.int64).clip(0, 65535)
        return Image.fromarray(((wide + 128) // 257).astype(np.uint8)).convert("RGB")
    return image.convert("RGB")


def _upright(rgb: Image.Image, original: Image.Image) -> Image.Image:
    try:
        orientation = original.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:  # noqa: BLE001
        return rgb  # a broken EXIF block says nothing about the pixels
    method = _ORIENTATIONS.get(orientation) if isinstance(orientation, int) else None
    return rgb if method is None else rgb.transpose(method)
