"""Reads the pixels of a Pillow image in its own memory, without a copy.

Pillow keeps an RGB pixel in four bytes, the last of which is padding, and hands its memory out by
Arrow's C data interface. ``numpy.asarray`` would copy all of them twice while it holds the GIL.
"""

from __future__ import annotations

import ctypes
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from PIL import Image

BLOCK_BYTES = 1 << 30
"""Pillow hands out only images that lie in one block of memory, and by default ends a block at
16 MB. This raises the limit to 1 GB; a block is never larger than its image."""
cast(Any, Image).core.set_block_size(BLOCK_BYTES)

_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_pointer.restype = ctypes.c_void_p
_pointer.argtypes = (ctypes.py_object, ctypes.c_char_p)


class _ArrowArray(ctypes.Structure):
    """struct ArrowArray of https://arrow.apache.org/docs/format/CDataInterface.html."""


_ArrowArray._fields_ = (
    ("length", ctypes.c_int64),
    ("null_count", ctypes.c_int64),
    ("offset", ctypes.c_int64),
    ("n_buffers", ctypes.c_int64),
    ("n_children", ctypes.c_int64),
    ("buffers", ctypes.POINTER(ctypes.c_void_p)),
    ("children", ctypes.POINTER(ctypes.POINTER(_ArrowArray))),
    ("dictionary", ctypes.c_void_p),
    ("release", ctypes.c_void_p),
    ("private_data", ctypes.c_void_p),
)


class _Memory:
    """The memory of an image; the capsule keeps it alive as long as there are arrays over it."""

    def __init__(self, capsule: object, address: int, shape: tuple[int, int], kind: str) -> None:
        self._capsule = capsule
        self.__array_interface__ = {
            "version": 3,
            "shape": shape,
            "typestr": kind,
            "data": (address, True),
        }


def words(image: Image.Image) -> npt.NDArray[Any]:
    """Return the pixels of an image of mode RGB or L as a read-only array [height, width].

    A pixel of RGB is a uint32, whose bytes in memory are red, green, blue and padding; one of L is
    a uint8. An image larger than `BLOCK_BYTES` is copied.
    """
    shape = (image.height, image.width)
    kind = "|u1" if image.mode == "L" else "=u4"
    _, capsule = _arrow(image)
    if capsule is None:
        whole = image.convert("RGBX") if image.mode == "RGB" else image
        return np.frombuffer(whole.tobytes(), kind).reshape(shape)
    array = _ArrowArray.from_address(_pointer(capsule, b"arrow_array"))
    if image.mode == "RGB":  # a pixel is a list of four bytes; the bytes lie in the child array
        array = array.children[0].contents
    return np.asarray(_Memory(capsule, array.buffers[1], shape, kind))


def _arrow(image: Image.Image) -> tuple[object, object]:
    """Return the capsules of Arrow's schema and array; None where there are several blocks."""
    image.load()
    try:
        pair: tuple[object, object] = image.__arrow_c_array__()
        return pair
    except ValueError:
        return None, None
