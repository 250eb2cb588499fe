"""Tensors by their bytes, as Triton's clients write and read them."""

from __future__ import annotations

import numpy as np
import pytest

from service.errors import BadParameter
from service.transports.oip.tensors import Tensor, from_binary, from_values, to_binary

TWO = b"\x03\0\0\0abc" + b"\0\0\0\0"
"""Of BYTES: three bytes, and none; lengths are little-endian."""


def test_elements_have_their_length_before_them() -> None:
    read = from_binary("image", "BYTES", (2,), TWO)
    assert [bytes(element) for element in read.data] == [b"abc", b""]
    assert to_binary(read) == TWO
    numbers = from_binary("pixels", "UINT8", (1, 3), b"\x01\x02\x03")
    assert np.asarray(numbers.data).tolist() == [[1, 2, 3]]
    floats = Tensor("scores", "FP32", (2,), np.array([1.0, -2.0], np.float32))
    assert to_binary(floats) == b"\0\0\x80\x3f\0\0\0\xc0"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (TWO + b"x", "1 bytes are left over after the 2 elements"),
        (TWO + b"\0\0\0\0", "4 bytes are left over"),
        (TWO[:-1], "ends before element 1"),
        (b"\x09\0\0\0abc", "announces 9 bytes, 3 are left"),
        (b"", "ends before element 0"),
    ],
)
def test_bytes_that_are_not_the_elements(data: bytes, words: str) -> None:
    with pytest.raises(BadParameter, match=words):
        from_binary("image", "BYTES", (2,), data)


@pytest.mark.parametrize("values", [[True, 2], [1, 256], [1, -1], [1, "2"], [1, 2.5], [1]])
def test_values_that_are_no_pixels(values: list[object]) -> None:
    with pytest.raises(BadParameter):
        from_values("pixels", "UINT8", (2,), values)
    assert np.asarray(from_values("pixels", "UINT8", (2,), [0, 255]).data).tolist() == [0, 255]
