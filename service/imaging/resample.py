"""Computes a window of a resized picture, bit for bit as Pillow computes it in the whole picture.

Pillow can resize a box alone, but takes the box in single precision: the edges of a window that is
mapped back to the source are rounded, which changes values by a level. Here Pillow's 8-bit
arithmetic is done for the rows and columns of the window only. Where a picture shrinks, the filters
are widened by the scale; their weights are normalised in double precision and rounded to 22 bits.
The first pass goes along the rows, the second along the columns (or the other way round where
Pillow does so), and each rounds to a byte.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import PIL
from PIL import Image

from service.imaging import kernels
from service.imaging.kernels import PRECISION_BITS, Ints, Words
from service.imaging.pixels import words

Array = npt.NDArray[np.float64]
Frame = tuple[float, float, float, float]
"""Left, top, right, bottom, in pixels of a picture."""

_PILLOW_MAY_SWAP = int(PIL.__version__.partition(".")[0]) >= 13


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
"""By interpolation: the filter, and how many pixels it reaches to each side at full scale."""


def quick(interpolation: str) -> bool:
    """Whether `resized_window` is faster than Pillow's resize of the whole picture."""
    return kernels.available() and interpolation in _FILTERS


def rows_first(before: tuple[int, int], after: tuple[int, int]) -> bool:
    """Whether Pillow resizes (width, height) vertically first.

    From version 13 on it does when the height loses more than twice the pixels that the width
    loses (pull request 9549).
    """
    lost_width, lost_height = before[0] - after[0], before[1] - after[1]
    return _PILLOW_MAY_SWAP and lost_height > 0 and lost_height > 2 * lost_width


_USUAL_LENGTH, _USUAL_INTERVAL = 4096, 1024
"""An axis of up to so many source pixels, and so many pixels of a window, is kept for the next
picture; each takes some 100 KB at most."""


class _Axis(NamedTuple):
    """How each pixel of an interval along one axis is summed up from source pixels."""

    first: int
    """The first source pixel that any of them needs."""
    last: int
    """The source pixel behind the last that any of them needs."""
    low: Ints
    """int32 [interval]: the first source pixel of each, counted from ``first``."""
    taps: Ints
    """int32 [interval]: how many source pixels each needs from there on."""
    weights: Ints
    """int32 [interval, most taps]: the factor of each source pixel, in units of 2^-22; 0 beyond
    ``taps``."""


class _Side(NamedTuple):
    """The pixels of one axis of a picture, and the part of them that is resized."""

    length: int
    """How many source pixels the axis has."""
    begin: float
    """Where the resized part begins, in source pixels."""
    end: float
    """Where the resized part ends, in source pixels."""
    resized: int
    """How many pixels the resized part becomes."""


def _axis(start: int, stop: int, side: _Side, interpolation: str) -> _Axis:
    """Return the `_Axis` of the pixels from ``start`` to ``stop`` of a resized side; axes of usual
    sizes are cached.
    """
    usual = side.length <= _USUAL_LENGTH and stop - start <= _USUAL_INTERVAL
    axis = _cached_axis if usual else _new_axis
    return axis(start, stop, side, interpolation)


def _new_axis(start: int, stop: int, side: _Side, interpolation: str) -> _Axis:
    length, begin, end, resized = side
    scale = (end - begin) / resized
    center = begin + (np.arange(start, stop) + 0.5) * scale
    if interpolation == "nearest":
        source = np.floor(center).astype(np.int32)
        first, last = int(source.min()), int(source.max()) + 1
        whole = np.full((len(source), 1), 1 << PRECISION_BITS, np.int32)
        return _Axis(first, last, source - np.int32(first), np.ones_like(source), whole)
    kernel, reach = _FILTERS[interpolation]
    widened = max(scale, 1.0)
    support = reach * widened
    low = np.maximum((center - support + 0.5).astype(np.int64), 0)
    high = np.minimum((center + support + 0.5).astype(np.int64), length)
    taps = low[:, None] + np.arange(int((high - low).max()))
    inside = taps < high[:, None]
    weights = kernel((taps - center[:, None] + 0.5) * (1.0 / widened)) * inside
    total = np.zeros(len(center))
    for column in weights.T:  # one after the other, as the rounding of a sum depends on its order
        total += column
    weights = weights / total[:, None] * (1 << PRECISION_BITS)
    rounded = np.trunc(weights + np.where(weights < 0, -0.5, 0.5)).astype(np.int32)
    first, last = int(low.min()), int(high.max())
    return _Axis(
        first, last, (low - first).astype(np.int32), (high - low).astype(np.int32), rounded
    )


_cached_axis = lru_cache(maxsize=256)(_new_axis)


def _columns(source: Words, axis: _Axis) -> Words:
    """Resample along the rows: pixels [rows, columns of the picture] -> [rows, interval]."""
    done = np.empty((len(source), len(axis.low)), source.dtype)
    if kernels.available():
        kernel = kernels.kernels().columns
        kernel(source, done, axis.first, axis.last, axis.low, axis.taps, axis.weights)
    else:
        part = _lanes(source[:, axis.first : axis.last])
        _lanes(done)[:] = _pass(part.swapaxes(0, 1), axis).swapaxes(0, 1)
    return done


def _rows(source: Words, axis: _Axis, columns: slice) -> Words:
    """Resample the slice ``columns`` along its columns: [rows of the picture, columns] ->
    [interval, columns of the slice].
    """
    part = source[axis.first : axis.last]
    done = np.empty((len(axis.low), columns.stop - columns.start), source.dtype)
    if kernels.available():
        size = source.itemsize
        flat, target = part.view(np.uint8), done.view(np.uint8)
        kernel = kernels.kernels().rows
        kernel(flat, target, columns.start * size, axis.low, axis.taps, axis.weights)
    else:
        _lanes(done)[:] = _pass(_lanes(part[:, columns]), axis)
    return done


def _lanes(pixels: Words) -> npt.NDArray[np.uint8]:
    """Return pixels [rows, columns] as uint8 [rows, columns, bytes of a pixel]."""
    return np.ascontiguousarray(pixels).view(np.uint8).reshape(*pixels.shape, pixels.itemsize)


def _pass(source: npt.NDArray[np.uint8], axis: _Axis) -> npt.NDArray[np.uint8]:
    """Resample uint8 [source, across, bytes] along its first axis, with NumPy alone."""
    total = np.full((len(axis.low), *source.shape[1:]), 1 << (PRECISION_BITS - 1), np.int64)
    last = len(source) - 1
    for tap, weights in enumerate(axis.weights.T):
        total += source[np.minimum(axis.low + tap, last)] * weights[:, None, None].astype(int)
    bytes_: npt.NDArray[np.uint8] = np.clip(total >> PRECISION_BITS, 0, 255).astype(np.uint8)
    return bytes_


def _packed(pixels: Words) -> npt.NDArray[np.uint8]:
    """Return pixels as uint8 [rows, columns, channels], without the padding byte of RGB."""
    if pixels.itemsize == 1:
        return pixels[:, :, None]
    if not kernels.available():
        return _lanes(pixels)[:, :, :3]
    done = np.empty((*pixels.shape, 3), np.uint8)
    kernels.kernels().packed(pixels.view(np.uint8), done)
    return done


def resized_window(
    picture: Image.Image,
    size: tuple[int, int],
    window: tuple[int, int, int, int],
    interpolation: str,
    frame: Frame | None = None,
) -> npt.NDArray[np.uint8]:
    """Return a window (left, top, right, bottom) of ``picture`` resized to ``size``, (w, h).

    ``picture`` is of mode RGB or L; ``frame`` is the part of it that becomes ``size``, by default
    all of it. Returns uint8 [bottom - top, right - left, channels].
    """
    left, top, right, bottom = window
    x, y, x_end, y_end = frame or (0.0, 0.0, *picture.size)
    columns = _axis(left, right, _Side(picture.width, x, x_end, size[0]), interpolation)
    rows = _axis(top, bottom, _Side(picture.height, y, y_end, size[1]), interpolation)
    pixels = words(picture)
    if rows_first(picture.size, size):
        across = slice(columns.first, columns.last)
        moved = columns._replace(first=0, last=columns.last - columns.first)
        return _packed(_columns(_rows(pixels, rows, across), moved))
    across = slice(0, right - left)
    moved = rows._replace(first=0, last=rows.last - rows.first)
    return _packed(_rows(_columns(pixels[rows.first : rows.last], columns), moved, across))
