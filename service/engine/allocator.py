"""Large blocks go back to the system as soon as they are free."""

from __future__ import annotations

import ctypes
import logging
from contextlib import suppress

logger = logging.getLogger("zoo.memory")

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
LARGE_BLOCK_BYTES = 4 * 1024 * 1024
"""Blocks from here on are mapped one by one. A photograph of 12 megapixels takes 48 MB."""


def give_back() -> None:
    """Return what is free to the system: after a network was unloaded; blocking, some 10 ms.

    Many of its tensors are small and lie between others, so that freeing alone keeps their pages.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def return_large_blocks() -> None:
    """Fix glibc's thresholds, which it would raise to 32 MB and more by itself.

    Without this the memory of one picture of 64 megapixels stays with the worker for good.
    Elsewhere than on glibc nothing is done.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    for parameter in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD):
        if mallopt(parameter, LARGE_BLOCK_BYTES) != 1:
            logger.warning("mallopt(%d) was refused: memory may not shrink", parameter)
