"""The loops of resampling as machine code, by numba.

Pillow's two passes of 8-bit resampling are done for a window and nothing else. numba is optional
(the extra ``fast``): pixels are the same without it, they take longer. The functions below are
ordinary Python and can be called as such. Compiled they release the GIL.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

numba: Any
try:
    import numba
except Exception:  # noqa: BLE001  not installed, too old for the NumPy that is, or damaged
    numba = None

logger = logging.getLogger("zoo.preprocessing")

Words = npt.NDArray[Any]
"""[rows, columns]: a pixel each, uint32 where it has four bytes and uint8 where it has one."""
Lanes = npt.NDArray[np.uint8]
"""uint8 [rows, columns times bytes of a pixel]: the same, byte by byte."""
Ints = npt.NDArray[np.int32]


class Kernels(NamedTuple):
    """The functions below, as machine code or as they are."""

    columns: Callable[[Words, Words, int, int, Ints, Ints, Ints], None]
    rows: Callable[[Lanes, Lanes, int, Ints, Ints, Ints], None]
    packed: Callable[[Lanes, npt.NDArray[np.uint8]], None]


PRECISION_BITS = 22
"""8-bit pixels times weights below 2 fit into 32 bits."""
_HALF = 1 << (PRECISION_BITS - 1)
_BLOCK = 32
"""Rows that are computed at once: one after the other in memory, as vector instructions want it."""


def columns(
    source: Words, target: Words, first: int, last: int, low: Ints, count: Ints, weights: Ints
) -> None:
    """Column x of ``target`` is made of ``count[x]`` columns of ``source``.

    They begin ``low[x]`` columns behind ``first``; none lies at ``last`` or behind it. ``weights``
    [columns of target, taps] are in units of 2^-22; each byte's sum is rounded to a byte.
    """
    wide, lanes = last - first, _BLOCK * source.itemsize
    block = np.empty((wide, _BLOCK), source.dtype)
    done = np.empty(_BLOCK, source.dtype)
    block_lanes, done_lanes = block.view(np.uint8), done.view(np.uint8)
    total = np.empty(lanes, np.int32)
    for top in range(0, source.shape[0], _BLOCK):
        height = min(_BLOCK, source.shape[0] - top)
        for row in range(height):
            for x in range(wide):
                block[x, row] = source[top + row, first + x]
        for x in range(target.shape[1]):
            for i in range(lanes):
                total[i] = _HALF
            for tap in range(count[x]):
                weight, column = weights[x, tap], low[x] + tap  # read here: totals may overlap them
                for i in range(lanes):
                    total[i] += np.int32(block_lanes[column, i]) * weight
            for i in range(lanes):
                done_lanes[i] = min(max(total[i] >> PRECISION_BITS, 0), 255)
            for row in range(height):
                target[top + row, x] = done[row]


def rows(source: Lanes, target: Lanes, first: int, low: Ints, count: Ints, weights: Ints) -> None:
    """The same for rows: of the lanes from ``first`` on, as many as ``target`` has."""
    wide = target.shape[1]
    total = np.empty(wide, np.int32)
    for y in range(target.shape[0]):
        for i in range(wide):
            total[i] = _HALF
        for tap in range(count[y]):
            weight, line = weights[y, tap], source[low[y] + tap, first : first + wide]
            for i in range(wide):
                total[i] += np.int32(line[i]) * weight
        for i in range(wide):
            target[y, i] = min(max(total[i] >> PRECISION_BITS, 0), 255)


def packed(source: Lanes, target: npt.NDArray[np.uint8]) -> None:
    """Pixels of four bytes -> ``target``, uint8 [rows, columns, 3]: the fourth is padding."""
    for y in range(target.shape[0]):
        for x in range(target.shape[1]):
            for channel in range(3):
                target[y, x, channel] = source[y, 4 * x + channel]


def available() -> bool:
    """Whether numba is installed."""
    return numba is not None


def prepare() -> None:
    """Compile now rather than with the first picture, and say what resizes pictures."""
    if available():
        kernels()
    else:
        logger.info("Pillow resizes whole pictures; with numba (the extra fast) it takes less")


@cache
def kernels() -> Kernels:
    """All of them as machine code.

    The first call takes some seconds where numba's cache does not have them, and some tenths where
    it does. The cache lies beside this file or, where that cannot be written, in the user's folder.
    """
    types: Any = numba.types
    byte, word, ints, weights = types.uint8, types.uint32, types.int32[::1], types.int32[:, ::1]
    axis = (ints, ints, weights)
    return Kernels(
        _compiled(
            columns,
            *(
                (_read_only(pixel, 2), pixel[:, ::1], types.int64, types.int64, *axis)
                for pixel in (word, byte)
            ),
        ),
        _compiled(rows, (_read_only(byte, 2), byte[:, ::1], types.int64, *axis)),
        _compiled(packed, (_read_only(byte, 2), byte[:, :, ::1])),
    )


def _read_only(element: Any, dimensions: int) -> Any:
    return numba.types.Array(element, dimensions, "C", readonly=True)


def _compiled(function: Any, *arguments: tuple[Any, ...]) -> Any:
    """The function for each of these types of its arguments."""
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "boundscheck": False}
    try:
        return numba.njit(list(arguments), cache=True, **options)(function)
    except Exception as error:  # noqa: BLE001  nowhere to write, or what lies there is damaged
        logger.warning("compiled code is not kept: %s: %s", type(error).__name__, error)
        return numba.njit(list(arguments), **options)(function)
