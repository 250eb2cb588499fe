"""Elements in another form: base64 text, as codecs of MLServer send it, and pixels as FP32."""

from __future__ import annotations

import re

import numpy as np
import pytest

from service.errors import BadParameter
from service.transports.oip.codecs import pictures_or_pixels
from service.transports.oip.tensors import Tensor, from_values


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([0.0, -0.1], "they go from -0.1"),
        ([0.0, 255.5], "to 255.5"),
        ([0.0, float("nan")], "to nan"),
        ([0.0, float("inf")], "to inf"),
        ([0.0, 0.5], "do not scale them"),
        ([0.25, 1.0], "do not scale them"),
    ],
)
def test_fp32_that_is_no_pixels_is_refused(values: list[float], words: str) -> None:
    good = np.full((3, 2), 7, np.float32)
    good[1] = values
    with pytest.raises(BadParameter, match=re.escape(words)):
        pictures_or_pixels(Tensor("pixels", "FP32", good.shape, good))


def test_dark_pixels_are_whole_numbers() -> None:
    dark = np.array([[0, 1, 1], [0, 0, 0], [254.6, 0, 2]], np.float32)
    made = pictures_or_pixels(Tensor("pixels", "FP32", dark.shape, dark))
    assert (made.datatype, made.shape) == ("UINT8", (3, 3))
    np.testing.assert_array_equal(made.data, [[0, 1, 1], [0, 0, 0], [255, 0, 2]])


def test_numbers_beyond_fp32_are_infinite() -> None:
    assert np.isinf(np.asarray(from_values("pixels", "FP32", (1,), [1e308]).data)).all()


@pytest.mark.parametrize("value", ["1", True, None, [1.0], 10**400])
def test_only_numbers_are_fp32(value: object) -> None:
    with pytest.raises(BadParameter, match="no FP32"):
        from_values("pixels", "FP32", (2,), [0.5, value])
