"""A window of a resized picture by SIMD, with cykooz-resizer (the Rust crate fast_image_resize).

The library is optional (the extra ``fast``). It takes a window's box in double precision, so that
only the pixels of the window are computed, and it releases the GIL while it works.

The passes are asked for one by one, in Pillow's order. Its weights have about 15 bits where
Pillow's have 22, so some values come out one level off; `loadtests.benchmarks.preprocessing` counts
them.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from service.imaging.resample import rows_first

try:
    import cykooz_resizer as library
except ImportError:  # only `exact` can be asked for then
    library = None

T = TypeVar("T", int, float)

FILTERS = {"bilinear": "bilinear", "bicubic": "catmull_rom", "lanczos": "lanczos3"}
"""By interpolation: the library's name of the same filter (Pillow's bicubic has a = -0.5)."""

_SUPPORT = {"bilinear": 1.0, "bicubic": 2.0, "lanczos": 3.0}
"""How far a filter reaches where nothing shrinks."""

Frame = tuple[float, float, float, float]
"""Left, top, right, bottom."""


def available() -> bool:
    """Whether the library is installed."""
    return library is not None


def supports(interpolation: str) -> bool:
    """Whether the library is installed and knows the filter."""
    return available() and interpolation in FILTERS


def resized_window(
    picture: Image.Image,
    size: tuple[int, int],
    window: tuple[int, int, int, int],
    interpolation: str,
    frame: Frame | None = None,
) -> npt.NDArray[np.uint8]:
    """The window (left, top, right, bottom) of ``picture`` resized to ``size`` (width, height).

    ``picture`` is of mode RGB or L, ``interpolation`` one of FILTERS; ``frame`` is the part of
    ``picture`` that becomes ``size``: without it, all. Returns uint8 [bottom - top, right - left,
    channels].
    """
    frame = frame or (0.0, 0.0, *picture.size)
    if rows_first(picture.size, size):
        turned = picture.transpose(Image.Transpose.TRANSPOSE)
        window_turned = resized_window(
            turned, size[::-1], _turned(window), interpolation, _turned(frame)
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
    return _resize(picture, plan)


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


def _resize(picture: Image.Image, plan: _Plan) -> npt.NDArray[np.uint8]:
    resizer = library.Resizer()
    wide = Image.new(picture.mode, (plan.width, plan.last - plan.first))
    resizer.resize_pil(picture, wide, plan.across(plan.first, wide.height))
    window = Image.new(picture.mode, (plan.width, plan.height))
    resizer.resize_pil(wide, window, plan.down())
    return np.asarray(window).reshape(plan.height, plan.width, -1)
