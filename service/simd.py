"""A window of a resized picture by SIMD, with cykooz-resizer (the Rust crate fast_image_resize).

The library is optional (the extra ``fast``). It takes a window's box in double precision, so that
only the pixels of the window are computed, and it releases the GIL while it works.

Pillow's 8-bit arithmetic rounds to a byte after each of its two passes, so the passes are asked
for one by one, in Pillow's order. With 8-bit pixels the library's weights have about 15 bits, and
0.4 % of the values come out one level off; with the same pixels widened to 16 bits they have 32,
and the last bit is Pillow's.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import PIL
from PIL import Image

try:
    import cykooz_resizer as library
except ImportError:  # the service then does what is exact with Pillow alone
    library = None

T = TypeVar("T", int, float)

FILTERS = {"bilinear": "bilinear", "bicubic": "catmull_rom", "lanczos": "lanczos3"}
"""By interpolation: the library's name of the same filter (Pillow's bicubic has a = -0.5)."""

_SUPPORT = {"bilinear": 1.0, "bicubic": 2.0, "lanczos": 3.0}
"""How far a filter reaches where nothing shrinks."""

Frame = tuple[float, float, float, float]
"""Left, top, right, bottom."""

_STRIP_BYTES = 1 << 18
"""A strip of source rows at a time: larger buffers go back to the system and cost page faults."""

_PILLOW_MAY_SWAP = int(PIL.__version__.partition(".")[0]) >= 13


def available() -> bool:
    """Whether the library is installed."""
    return library is not None


def supports(interpolation: str) -> bool:
    """Whether the library is installed and knows the filter."""
    return available() and interpolation in FILTERS


def is_exact(before: tuple[int, int], after: tuple[int, int], interpolation: str) -> bool:
    """Whether 16-bit pixels give Pillow's bytes here: at most 1 value in 1,000 one level off.

    Pillow rounds weights to 22 bits, so it decides by its own rounding errors where a value lies
    halfway between two bytes. That is rare (1 in 10,000) but where weights are simple fractions:
    those of the bilinear filter, and the others' where 3 pixels become 2 or a picture grows.
    """
    if not available() or interpolation not in ("bicubic", "lanczos"):
        return False
    return all(
        old % new == 0 or (old > new and old * 2 % new != 0)
        for old, new in zip(before, after, strict=True)
    )


def rows_first(before: tuple[int, int], after: tuple[int, int]) -> bool:
    """Whether Pillow resizes (width, height) vertically first.

    From version 13 on it does when the height loses more than twice the pixels that the width
    loses (pull request 9549).
    """
    lost_width, lost_height = before[0] - after[0], before[1] - after[1]
    return _PILLOW_MAY_SWAP and lost_height > 0 and lost_height > 2 * lost_width


def resized_window(
    picture: Image.Image,
    size: tuple[int, int],
    window: tuple[int, int, int, int],
    interpolation: str,
    *,
    fast: bool,
    frame: Frame | None = None,
) -> npt.NDArray[np.uint8]:
    """The window (left, top, right, bottom) of ``picture`` resized to ``size`` (width, height).

    ``picture`` is of mode RGB or L, ``interpolation`` one of FILTERS. ``fast`` computes with 8-bit
    pixels. ``frame`` is the part of ``picture`` that becomes ``size``: without it, all. Returns
    uint8 [bottom - top, right - left, channels].
    """
    frame = frame or (0.0, 0.0, *picture.size)
    if rows_first(picture.size, size):
        turned = picture.transpose(Image.Transpose.TRANSPOSE)
        window_turned = resized_window(
            turned, size[::-1], _turned(window), interpolation, fast=fast, frame=_turned(frame)
        )
        return np.transpose(window_turned, (1, 0, 2))
    left, top, right, bottom = window
    across, down = (frame[2] - frame[0]) / size[0], (frame[3] - frame[1]) / size[1]
    x, y = frame[0] + left * across, frame[1] + top * down
    width, height = (right - left) * across, (bottom - top) * down
    margin = _SUPPORT[interpolation] * max(down, 1.0) + 1
    first = max(0, int(y - margin))
    last = min(picture.height, int(y + height + margin) + 1)
    plan = _Plan(
        first,
        last,
        # the library refuses a box that a rounding error takes beyond the edge
        (x, min(width, picture.width - x)),
        (y - first, min(height, last - y)),
        right - left,
        bottom - top,
        library.ResizeAlg.convolution(library.FilterType[FILTERS[interpolation]]),
    )
    return _resize_8_bit(picture, plan) if fast else _resize_16_bit(picture, plan)


def _turned(box: tuple[T, T, T, T]) -> tuple[T, T, T, T]:
    left, top, right, bottom = box
    return top, left, bottom, right


class _Plan(NamedTuple):
    first: int
    """Source rows from ``first`` to ``last`` are resized horizontally, then vertically."""
    last: int
    columns: tuple[float, float]
    """The window's start and length in source pixels."""
    rows: tuple[float, float]
    """The same of its rows, counted from ``first``."""
    width: int
    height: int
    algorithm: Any

    def across(self, top: int, height: int) -> Any:
        """The horizontal pass over ``height`` source rows from ``top``."""
        return self._options(self.columns[0], top, self.columns[1], height)

    def down(self) -> Any:
        """The vertical pass over what the horizontal one made."""
        return self._options(0, self.rows[0], self.width, self.rows[1])

    def _options(self, left: float, top: float, width: float, height: float) -> Any:
        box = library.CropBox(left, top, width, height)
        return library.ResizeOptions(self.algorithm, crop_box=box)


def _resize_8_bit(picture: Image.Image, plan: _Plan) -> npt.NDArray[np.uint8]:
    resizer = library.Resizer()
    wide = Image.new(picture.mode, (plan.width, plan.last - plan.first))
    resizer.resize_pil(picture, wide, plan.across(plan.first, wide.height))
    window = Image.new(picture.mode, (plan.width, plan.height))
    resizer.resize_pil(wide, window, plan.down())
    return np.asarray(window).reshape(plan.height, plan.width, -1)


def _resize_16_bit(picture: Image.Image, plan: _Plan) -> npt.NDArray[np.uint8]:
    channels = len(picture.getbands())
    wide = np.empty((plan.last - plan.first, plan.width, channels), np.uint16)
    step = max(1, _STRIP_BYTES // (2 * picture.width * channels))
    for top in range(plan.first, plan.last, step):
        bottom = min(top + step, plan.last)
        strip = np.asarray(picture.crop((0, top, picture.width, bottom)), np.uint16)
        size = (plan.width, bottom - top)
        pixels = _resize_pixels(strip, size, plan.across(0, bottom - top), channels)
        # 16 bits hold what overshoots white, a byte does not; what is below black is 0 already
        np.minimum(pixels, 255, out=wide[top - plan.first : bottom - plan.first])
    window = _resize_pixels(wide, (plan.width, plan.height), plan.down(), channels)
    bytes_: npt.NDArray[np.uint8] = np.minimum(window, 255).astype(np.uint8)
    return bytes_


def _resize_pixels(
    pixels: npt.NDArray[np.uint16], size: tuple[int, int], options: Any, channels: int
) -> npt.NDArray[np.uint16]:
    """uint16 [H, W] or [H, W, channels] -> uint16 [height, width, channels] for ``size``."""
    kind = library.PixelType.U16x3 if channels == 3 else library.PixelType.U16
    given = library.ImageData(pixels.shape[1], pixels.shape[0], kind, pixels.tobytes())
    made = library.ImageData(*size, kind)
    library.Resizer().resize(given, made, options)
    return np.frombuffer(made.get_buffer(), np.uint16).reshape(size[1], size[0], channels)
