"""Reads and writes tensors as the protocol carries them, in binary or as lists of values.

Elements are in row-major order.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from service.errors import BadParameter, BodyTooLarge

Elements: TypeAlias = "Sequence[bytes | memoryview]"
"""The elements of a BYTES tensor."""

DATATYPES: dict[str, npt.DTypeLike] = {"UINT8": "u1", "INT64": "<i8", "FP32": "<f4"}
"""The datatypes of fixed size that our inputs and outputs have; BYTES is the other one."""
MOST_VALUES = 1_000_000
"""How many values a request may hold outside of binary data: to read more would delay others."""
LONG_VALUES = 4096
"""So many values take a few milliseconds to read or write one by one. More are read and written in
the thread of `service.dataplane.offload`."""
MOST_ELEMENTS = 4096
"""How many elements a BYTES tensor may have: as many pictures as ZOO_MAX_PICTURES may allow."""
MOST_DIMENSIONS = 8
MOST_TENSORS = 16
"""How many inputs, and how many requested outputs, a request may have."""
_LENGTH = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class Tensor:
    """A named tensor whose data agrees with its datatype and shape."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: npt.NDArray[Any] | Elements
    """An array of ``shape``, or the flat elements of BYTES."""
    encoded: bool = False
    """Whether the elements are base64 text, which `service.transports.oip.codecs` decodes."""


def shape_of(name: str, shape: Sequence[object]) -> tuple[int, ...]:
    """Check the dimensions that a client sent and return them. Raises BadParameter."""
    if len(shape) > MOST_DIMENSIONS:
        raise BadParameter(f"the shape of {name[:64]!r} has more than {MOST_DIMENSIONS} dimensions")
    sizes = []
    for size in shape:
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < 2**63:
            raise BadParameter(
                f"the shape of {name[:64]!r} has a dimension that is no whole number from 0 on"
            )
        sizes.append(size)
    return tuple(sizes)


def from_binary(
    name: str, datatype: str, shape: tuple[int, ...], data: bytes | memoryview
) -> Tensor:
    """Read a tensor from little-endian binary data, without a copy.

    Each element of BYTES follows its length, an unsigned integer of 4 bytes. Raises BadParameter
    when data, datatype and shape do not agree.
    """
    count = math.prod(shape)
    if datatype == "BYTES":
        _check_elements(name, count)
        return Tensor(name, datatype, shape, list(_elements(name, memoryview(data), count)))
    kind = _dtype(name, datatype)
    if len(data) != count * kind.itemsize:
        raise BadParameter(
            f"the tensor {name[:64]!r} has {len(data)} bytes, its shape {list(shape)} of "
            f"{datatype} has {count * kind.itemsize}"
        )
    return Tensor(name, datatype, shape, _shaped(name, np.frombuffer(data, kind), shape))


def from_values(
    name: str,
    datatype: str,
    shape: tuple[int, ...],
    values: Sequence[Any],
    decode: Callable[[Any], bytes] = bytes,
) -> Tensor:
    """Read a tensor from a flat list: numbers for UINT8 or FP32, anything for BYTES.

    ``decode`` makes bytes of each element of BYTES, and raises ValueError or TypeError where it
    cannot. Raises BadParameter when values, datatype and shape do not agree.
    """
    if len(values) > MOST_VALUES:
        raise BadParameter(
            f"the tensor {name[:64]!r} has more than {MOST_VALUES} values: send it in binary"
        )
    _check_count(name, shape, math.prod(shape), len(values))
    try:
        if datatype == "BYTES":
            _check_elements(name, len(values))
            return Tensor(name, datatype, shape, [decode(value) for value in values])
        if datatype == "UINT8":
            if not values_are_numbers(values):
                raise TypeError("a boolean is no number")
            data = _shaped(name, np.frombuffer(bytes(values), np.uint8), shape)
            return Tensor(name, datatype, shape, data)
        if datatype == "FP32":
            return Tensor(name, datatype, shape, _shaped(name, _floats(values), shape))
    except (ValueError, TypeError, OverflowError) as error:
        raise BadParameter(f"the values of {name[:64]!r} are no {datatype}: {error}") from None
    raise _unknown(name, datatype)


def values_are_numbers(values: Sequence[Any]) -> bool:
    """Whether there is no boolean among these; Python and NumPy would take it for 0 or 1."""
    return bool not in set(map(type, values))


def _floats(values: Sequence[Any]) -> npt.NDArray[np.float32]:
    """Return float32 [N]. Raises TypeError for text and booleans, which NumPy would convert."""
    if isinstance(values, list) and not {float, int}.issuperset(map(type, values)):
        raise TypeError("not all of them are numbers")
    with np.errstate(over="ignore"):  # what is too large for FP32 becomes infinite
        return np.fromiter(values, np.float32, len(values))


def _shaped(name: str, values: npt.NDArray[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """Give flat values their shape. Raises BadParameter for a shape that NumPy cannot represent.

    Such a shape can agree with the data: 0 elements of [0, 2**62, 2**62].
    """
    try:
        return values.reshape(shape)
    except ValueError as error:
        raise BadParameter(f"the shape of {name[:64]!r} cannot be: {error}") from None


def to_binary(tensor: Tensor) -> bytes:
    """Return the data of a tensor in the form that `from_binary` reads."""
    if not isinstance(tensor.data, np.ndarray):
        parts = (part for element in tensor.data for part in (_LENGTH.pack(len(element)), element))
        return b"".join(parts)
    return tensor.data.astype(_dtype(tensor.name, tensor.datatype), copy=False).tobytes()


def to_values(tensor: Tensor) -> Iterator[list[Any]]:
    """Yield the flat values in pieces of `LONG_VALUES`: numbers, or the text of BYTES.

    BYTES must be UTF-8, as our outputs are.
    """
    flat = tensor.data.ravel() if isinstance(tensor.data, np.ndarray) else tensor.data
    for start in range(0, len(flat), LONG_VALUES):
        piece = flat[start : start + LONG_VALUES]
        if isinstance(piece, np.ndarray):
            yield piece.tolist()
        else:
            yield [bytes(element).decode() for element in piece]


def _elements(name: str, data: memoryview, count: int) -> Iterator[memoryview]:
    start, end = 0, len(data)
    for index in range(count):
        if end - start < _LENGTH.size:
            raise BadParameter(f"the binary data of {name[:64]!r} ends before element {index}")
        (length,) = _LENGTH.unpack_from(data, start)
        start += _LENGTH.size
        if length > end - start:
            raise BadParameter(
                f"element {index} of {name[:64]!r} announces {length} bytes, {end - start} are left"
            )
        yield data[start : start + length]
        start += length
    if start != end:
        raise BadParameter(
            f"{end - start} bytes are left over after the {count} elements of {name[:64]!r}"
        )


def _check_elements(name: str, count: int) -> None:
    if count > MOST_ELEMENTS:
        raise BodyTooLarge(f"the tensor {name[:64]!r} has more than {MOST_ELEMENTS} elements")


def _check_count(name: str, shape: tuple[int, ...], expected: int, have: int) -> None:
    if expected != have:
        raise BadParameter(
            f"the tensor {name[:64]!r} has {have} elements, its shape {list(shape)} has {expected}"
        )


def _dtype(name: str, datatype: str) -> np.dtype[Any]:
    if datatype not in DATATYPES:
        raise _unknown(name, datatype)
    return np.dtype(DATATYPES[datatype])


def _unknown(name: str, datatype: str) -> BadParameter:
    return BadParameter(
        f"the tensor {name[:64]!r} is of datatype {datatype[:16]!r}; inputs are BYTES, UINT8 or "
        "FP32"
    )
