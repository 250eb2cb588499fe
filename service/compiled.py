"""Pillow's two passes of 8-bit resampling as machine code, by numba: a window and nothing else.

numba is optional (the extra ``fast``): the pixels are the same without it, they take longer. The
functions below are ordinary Python and can be called as such. Compiled they release the GIL.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

numba: Any
try:
    import numba
except Exception:  # noqa: BLE001  not installed, too old for the NumPy that is, or damaged
    numba = None

logger = logging.getLogger("zoo.preprocessing")

Pixels = npt.NDArray[np.uint8]
"""uint8 [rows, columns, channels]."""
Ints = npt.NDArray[np.int32]

Kernel = Callable[[Pixels, Pixels, Ints, Ints, Ints], None]

PRECISION_BITS = 22
"""8-bit pixels times weights below 2 fit into 32 bits."""
_HALF = 1 << (PRECISION_BITS - 1)
_BLOCK = 32
"""Rows that are computed at once: one after the other in memory, as vector instructions want it."""


def columns(source: Pixels, target: Pixels, low: Ints, count: Ints, weights: Ints) -> None:
    """Column x of ``target`` is made of ``count[x]`` columns of ``source`` from ``low[x]`` on.

    ``weights`` [columns of target, taps] are in units of 2^-22; sums are rounded to a byte.
    """
    rows, wide, channels = source.shape
    block = np.empty((wide, channels * _BLOCK), np.uint8)
    total = np.empty(channels * _BLOCK, np.int32)
    for top in range(0, rows, _BLOCK):
        height = min(_BLOCK, rows - top)
        for row in range(height):
            for x in range(wide):
                for channel in range(channels):
                    block[x, channel * _BLOCK + row] = source[top + row, x, channel]
        for x in range(target.shape[1]):
            for i in range(channels * _BLOCK):
                total[i] = _HALF
            for tap in range(count[x]):
                weight, column = weights[x, tap], low[x] + tap  # read here: totals may overlap them
                for i in range(channels * _BLOCK):
                    total[i] += np.int32(block[column, i]) * weight
            for channel in range(channels):
                for row in range(height):
                    value = total[channel * _BLOCK + row] >> PRECISION_BITS
                    target[top + row, x, channel] = min(max(value, 0), 255)


def rows(source: Pixels, target: Pixels, low: Ints, count: Ints, weights: Ints) -> None:
    """The same for rows; both are uint8 [rows, columns times channels]."""
    wide = source.shape[1]
    total = np.empty(wide, np.int32)
    for y in range(target.shape[0]):
        for i in range(wide):
            total[i] = _HALF
        for tap in range(count[y]):
            weight, row = weights[y, tap], low[y] + tap
            for i in range(wide):
                total[i] += np.int32(source[row, i]) * weight
        for i in range(wide):
            target[y, i] = min(max(total[i] >> PRECISION_BITS, 0), 255)


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
def kernels() -> tuple[Kernel, Kernel]:
    """`columns` and `rows` as machine code.

    The first call takes a second where numba's cache does not have them, and some tenths where it
    does. The cache lies beside this file or, where that cannot be written, in the user's folder.
    """
    return _compiled(columns, 3), _compiled(rows, 2)


def _compiled(function: Kernel, dimensions: int) -> Kernel:
    types: Any = numba.types
    ints, weights = types.int32[::1], types.int32[:, ::1]
    source = types.Array(types.uint8, dimensions, "C", readonly=True)
    target = types.Array(types.uint8, dimensions, "C")
    signature = types.void(source, target, ints, ints, weights)
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "boundscheck": False}
    try:
        compiled: Kernel = numba.njit(signature, cache=True, **options)(function)
    except Exception as error:  # noqa: BLE001  nowhere to write, or what lies there is damaged
        logger.warning("compiled code is not kept: %s: %s", type(error).__name__, error)
        compiled = numba.njit(signature, **options)(function)
    return compiled
