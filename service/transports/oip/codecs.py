"""Decodes inputs that come in another form than the model takes: base64 text and FP32 pixels.

MLServer's clients send pictures as base64 text and say so in the parameter `content_type`. Clients
of OpenVINO Model Server send pixels as FP32, from 0 to 255.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import replace
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from service.errors import BadParameter
from service.transports.oip.tensors import Elements, Tensor

BASE64, NUMPY = "base64", "np"
"""The values of `content_type`: the elements are base64 text, or numbers."""
_LONG_VALUES, _LONG_BYTES = 1 << 19, 1 << 20
"""More FP32 values, or more bytes of base64, take longer than a millisecond or two to decode."""


def check_content(owner: str, datatype: str | None, content_type: str | None) -> None:
    """Raise BadParameter where a ``content_type`` is unknown or does not go with ``datatype``.

    ``owner`` names in the error what has it; ``datatype`` is None for a request as a whole.
    """
    if content_type is None:
        return
    if content_type not in (BASE64, NUMPY):
        raise BadParameter(
            f"content_type of {owner} is {content_type[:64]!r}; it can be {BASE64!r}, for BYTES, "
            f"or {NUMPY!r}, for numbers"
        )
    if datatype is not None and (content_type == BASE64) != (datatype == "BYTES"):
        raise BadParameter(
            f"content_type {content_type!r} does not go with {datatype[:16]!r} of {owner}"
        )


def needs_decoding(tensor: Tensor) -> bool:
    """Whether `pictures_or_pixels` has something to do for this tensor."""
    return tensor.encoded or tensor.datatype == "FP32"


def is_long_to_decode(tensor: Tensor) -> bool:
    """Whether `pictures_or_pixels` takes more than a few milliseconds for this tensor."""
    if isinstance(tensor.data, np.ndarray):
        return tensor.data.size > _LONG_VALUES
    return sum(map(len, tensor.data)) > _LONG_BYTES


def pictures_or_pixels(tensor: Tensor) -> Tensor:
    """Return the tensor decoded: BYTES from base64, or UINT8 pixels from FP32.

    Raises BadParameter for text that is not base64, and for values outside of 0 to 255.
    """
    if tensor.encoded:
        elements = cast(Elements, tensor.data)
        return replace(tensor, data=_from_base64(tensor.name, elements), encoded=False)
    values = cast("npt.NDArray[np.float32]", tensor.data)
    return replace(tensor, datatype="UINT8", data=_pixels(tensor.name, values))


def _from_base64(name: str, elements: Elements) -> list[bytes]:
    try:
        return [base64.b64decode(element, validate=True) for element in elements]
    except binascii.Error as error:
        raise BadParameter(f"an element of {name[:64]!r} is no base64: {error}") from None


def _pixels(name: str, crops: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Round float32 crops [N, ...] to uint8, crop by crop, so that no large copy is needed."""
    pixels = np.empty(crops.shape, np.uint8)
    for crop, target in zip(crops, pixels, strict=True):
        low, high = crop.min(), crop.max()
        if not (low >= 0 and high <= 255):  # true also where any is NaN
            raise BadParameter(
                f"{name!r} as FP32 has values from 0 to 255, as they come out of a decoder: mean "
                f"and scale lie in the model. Here they go from {low} to {high}"
            )
        whole: npt.NDArray[Any] = np.rint(crop)
        if high <= 1 and (whole != crop).any():
            raise BadParameter(
                f"{name!r} as FP32 has values from 0 to 255, here from 0 to 1: do not scale them"
            )
        target[...] = whole
    return pixels
