"""The pixels of a Pillow image where they lie, without a copy.

Pillow keeps an RGB pixel in four bytes, the last of which is padding, and hands its memory out by
Arrow's C data interface. ``numpy.asarray`` would copy all of them twice, and hold Python's lock.
"""

from __future__ import annotations

import ctypes
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from PIL import Image

BLOCK_BYTES = 1 << 30
"""Pillow hands out what lies in one block, and makes larger images of several. A block is no larger
than its image; by itself Pillow ends it at 16 MB."""
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
    """Memory of an image, which lives as long as arrays over it."""

    def __init__(self, capsule: object, address: int, shape: tuple[int, int], kind: str) -> None:
        self._capsule = capsule
        self.__array_interface__ = {
            "version": 3,
            "shape": shape,
            "typestr": kind,
            "data": (address, True),
        }


def words(image: Image.Image) -> npt.NDArray[Any]:
    """The pixels of an image of mode RGB or L: [height, width], read-only.

    Each is a uint32 of RGB, whose bytes in memory are red, green, blue and padding, or a uint8 of
    L. Of an image in several blocks, beyond `BLOCK_BYTES`, it is a copy.
    """
    shape = (image.height, image.width)
    kind = "|u1" if image.mode == "L" else "=u4"
    _, capsule = _arrow(image)
    if capsule is None:
        whole = image.convert("RGBX") if image.mode == "RGB" else image
        return np.frombuffer(whole.tobytes(), kind).reshape(shape)
    array = _ArrowArray.from_address(_pointer(capsule, b"arrow_array"))
    if image.mode == "RGB":  # lists of four bytes, which are all in the child
        array = array.children[0].contents
    return np.asarray(_Memory(capsule, array.buffers[1], shape, kind))


def _arrow(image: Image.Image) -> tuple[object, object]:
    """The capsules of schema and array; None where the image is in several blocks."""
    image.load()
    try:
        pair: tuple[object, object] = image.__arrow_c_array__()
        return pair
    except ValueError:
        return None, None
