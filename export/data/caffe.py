"""Read Caffe's mean images, a BlobProto in Protocol Buffers' wire format, without Caffe.

message BlobProto { num = 1, channels = 2, height = 3, width = 4 (int32); data = 5 (floats);
shape = 7 (BlobShape { dim = 1 (int64s) }); double_data = 8; and others, which are skipped }
(https://github.com/BVLC/caffe/blob/master/src/caffe/proto/caffe.proto).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from export.errors import UnreadableMeanImage

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_FIXED = {_FIXED64: 8, _FIXED32: 4}
_OLD_SHAPE = (1, 2, 3, 4)
_DATA, _SHAPE, _DOUBLE_DATA = 5, 7, 8


def read_mean(file: Path) -> npt.NDArray[np.float32]:
    """Read the mean image of a ``.binaryproto`` file: float32 [height, width, channels].

    Channels stay in the file's order: blue, green, red where Caffe wrote it. Raises
    UnreadableMeanImage when the file is no BlobProto or holds no picture.
    """
    try:
        data = file.read_bytes()
    except OSError as error:
        raise UnreadableMeanImage(f"cannot read {file}: {error.strerror or error}") from error
    try:
        blob = read_blob(data)
    except ValueError as error:
        raise UnreadableMeanImage(f"{file} is not a BlobProto of Caffe: {error}") from error
    shape = blob.shape[1:] if blob.ndim == 4 and blob.shape[0] == 1 else blob.shape
    if len(shape) != 3 or shape[0] not in (1, 3):
        words = "x".join(map(str, blob.shape))
        raise UnreadableMeanImage(f"{file} holds no mean image but a blob of {words} numbers")
    return np.ascontiguousarray(blob.reshape(shape).transpose(1, 2, 0))


def read_blob(data: bytes) -> npt.NDArray[np.float32]:
    """Return the numbers of a BlobProto, in its shape. Raises ValueError where ``data`` is none."""
    old: dict[int, int] = {}
    shape: list[int] = []
    parts: list[npt.NDArray[np.floating]] = []
    for field, wire, value in fields(data):
        if field in _OLD_SHAPE and isinstance(value, int):
            old[field] = value
        elif field == _SHAPE and isinstance(value, bytes):
            shape = _dimensions(value)
        elif field in (_DATA, _DOUBLE_DATA):
            width = 4 if field == _DATA else 8
            if isinstance(value, int) or (wire != _LENGTH and len(value) != width):
                raise ValueError("its numbers have another type")
            if len(value) % width:
                raise ValueError("it ends in the middle of a number")
            parts.append(np.frombuffer(value, f"<f{width}"))
    if not parts:
        raise ValueError("it holds no numbers")
    numbers = np.concatenate(parts).astype(np.float32)
    dimensions = shape or [old.get(field, 1) for field in _OLD_SHAPE]
    if math.prod(dimensions) != numbers.size or min(dimensions) < 1:
        words = "x".join(map(str, dimensions))
        raise ValueError(f"{numbers.size} numbers do not make a shape of {words}")
    return numbers.reshape(dimensions)


def _dimensions(shape: bytes) -> list[int]:
    """Read a BlobShape: one packed list of varints, or one field for each."""
    found: list[int] = []
    for field, _, value in fields(shape):
        if field != 1:
            continue
        if isinstance(value, int):
            found.append(value)
            continue
        at = 0
        while at < len(value):
            number, at = _varint(value, at)
            found.append(number)
    return found


def fields(data: bytes) -> Iterator[tuple[int, int, int | bytes]]:
    """Yield (number, wire type, value) of every field: varints as int, all others as bytes.

    Raises ValueError when ``data`` is no message.
    """
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        field, wire = key >> 3, key & 7
        if field == 0:
            raise ValueError("it has a field of number 0")
        if wire == _VARINT:
            number, at = _varint(data, at)
            yield field, wire, number
            continue
        if wire == _LENGTH:
            length, at = _varint(data, at)
        elif wire in _FIXED:
            length = _FIXED[wire]
        else:
            raise ValueError(f"it has a field of wire type {wire}")
        if length > len(data) - at:
            raise ValueError("it ends in the middle of a field")
        yield field, wire, data[at : at + length]
        at += length


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Return the base-128 number at offset ``at``, and the offset of its end."""
    number = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise ValueError("it ends in the middle of a field")
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
    raise ValueError("it has a number of more than 64 bits")
