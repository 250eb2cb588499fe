"""A window of a resized picture, to the last bit what Pillow makes of the whole.

Pillow can resize a box alone, but takes the box in single precision, which moves values by a
level. Here its 8-bit arithmetic is done for the window's rows and columns only: filters widened by
the scale where a picture shrinks, weights normalised in double precision and rounded to 22 bits,
columns first within each row, then rows, each pass rounded to a byte.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

Array = npt.NDArray[np.float64]

_PRECISION_BITS = 22
"""8-bit pixels times weights below 2 fit into 32 bits."""


def _bilinear(x: Array) -> Array:
    return np.maximum(1.0 - np.abs(x), 0.0)


def _bicubic(x: Array) -> Array:
    """Keys 1981 with a = -0.5."""
    a = -0.5
    x = np.abs(x)
    near = ((a + 2.0) * x - (a + 3.0)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return np.where(x < 1.0, near, np.where(x < 2.0, far, 0.0))


def _lanczos(x: Array) -> Array:
    window = np.sinc(x) * np.sinc(x / 3)
    return np.where((x >= -3.0) & (x < 3.0), window, 0.0)


_FILTERS = {"bilinear": (_bilinear, 1.0), "bicubic": (_bicubic, 2.0), "lanczos": (_lanczos, 3.0)}
"""By interpolation: the filter, and how far it reaches when nothing shrinks."""


class _Axis(NamedTuple):
    """How the pixels of an interval are made of source pixels from ``first`` to ``last``."""

    first: int
    last: int
    taps: npt.NDArray[np.int64]
    """int64 [interval, taps]: source pixels, counted from ``first``."""
    weights: npt.NDArray[np.int64]
    """int64 [interval, taps], in units of 2^-22."""


def _axis(start: int, stop: int, length: int, resized: int, interpolation: str) -> _Axis:
    scale = length / resized
    if interpolation == "nearest":
        source = np.floor((np.arange(start, stop) + 0.5) * scale).astype(np.int64)[:, None]
        first, last = int(source.min()), int(source.max()) + 1
        whole = np.full_like(source, 1 << _PRECISION_BITS)
        return _Axis(first, last, source - first, whole)
    kernel, reach = _FILTERS[interpolation]
    widened = max(scale, 1.0)
    support = reach * widened
    center = (np.arange(start, stop) + 0.5) * scale
    low = np.maximum((center - support + 0.5).astype(np.int64), 0)
    high = np.minimum((center + support + 0.5).astype(np.int64), length)
    taps = low[:, None] + np.arange(int((high - low).max()))
    inside = taps < high[:, None]
    weights = kernel((taps - center[:, None] + 0.5) * (1.0 / widened)) * inside
    total = np.zeros(len(center))
    for column in weights.T:  # one after the other, as the rounding of a sum depends on its order
        total += column
    weights = weights / total[:, None] * (1 << _PRECISION_BITS)
    rounded = np.trunc(weights + np.where(weights < 0, -0.5, 0.5)).astype(np.int64)
    first, last = int(low.min()), int(high.max())
    return _Axis(first, last, np.minimum(taps, last - 1) - first, rounded)


def _pass(pixels: npt.NDArray[np.uint8], axis: _Axis) -> npt.NDArray[np.uint8]:
    """uint8 [rows, source, channels] -> uint8 [rows, interval, channels]."""
    total = np.full(
        (pixels.shape[0], len(axis.taps), pixels.shape[2]), 1 << (_PRECISION_BITS - 1), np.int64
    )
    for taps, weights in zip(axis.taps.T, axis.weights.T, strict=True):
        total += pixels[:, taps] * weights[None, :, None]
    bytes_: npt.NDArray[np.uint8] = np.clip(total >> _PRECISION_BITS, 0, 255).astype(np.uint8)
    return bytes_


def resized_window(
    picture: Image.Image,
    size: tuple[int, int],
    window: tuple[int, int, int, int],
    interpolation: str,
) -> npt.NDArray[np.uint8]:
    """The window (left, top, right, bottom) of ``picture`` resized to ``size`` (width, height).

    ``picture`` is of mode RGB or L and grows in both directions; Pillow may swap its passes where
    it shrinks. Returns uint8 [bottom - top, right - left, channels].
    """
    left, top, right, bottom = window
    columns = _axis(left, right, picture.width, size[0], interpolation)
    rows = _axis(top, bottom, picture.height, size[1], interpolation)
    part = picture.crop((columns.first, rows.first, columns.last, rows.last))
    pixels = np.asarray(part).reshape(part.height, part.width, -1)
    wide = _pass(pixels, columns)
    return np.ascontiguousarray(_pass(wide.swapaxes(0, 1), rows).swapaxes(0, 1))
