"""Makes glibc return free memory to the system."""

from __future__ import annotations

import ctypes
import logging
from contextlib import suppress

logger = logging.getLogger("zoo.memory")

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
LARGE_BLOCK_BYTES = 4 * 1024 * 1024
"""Blocks of at least this size are mapped one by one, and unmapped when freed. A photograph of 12
megapixels takes 48 MB."""


def give_back() -> None:
    """Return free memory to the system after a network was unloaded. Blocks for some 10 ms.

    Many of its tensors are small and lie between others, so that freeing alone keeps their pages.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def return_large_blocks() -> None:
    """Have glibc map every block of `LARGE_BLOCK_BYTES` or more, and return it when it is freed.

    glibc would raise this threshold by itself to 32 MB and more, and the memory of one picture of
    64 megapixels would stay with the worker for good. Does nothing without glibc.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    for parameter in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD):
        if mallopt(parameter, LARGE_BLOCK_BYTES) != 1:
            logger.warning("mallopt(%d) was refused: memory may not shrink", parameter)
