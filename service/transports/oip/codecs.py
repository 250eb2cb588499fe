"""Elements that come in another form than the model takes: base64 text, and pixels as FP32.

MLServer's clients send pictures as base64 text, and say so by the parameter `content_type`. Those
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
"""What `content_type` can be: elements are base64 text, or numbers."""
_LONG_VALUES, _LONG_BYTES = 1 << 19, 1 << 20
"""Of FP32 and of base64: what takes longer than a millisecond or two to decode."""


def check_content(owner: str, datatype: str | None, content_type: str | None) -> None:
    """Raise BadParameter where a ``content_type`` says something else than what is done.

    ``datatype`` is that of the tensor, None for a request as a whole.
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
    """Whether `pictures_or_pixels` makes another tensor of it."""
    return tensor.encoded or tensor.datatype == "FP32"


def is_long_to_decode(tensor: Tensor) -> bool:
    """Whether that takes more than a few milliseconds."""
    if isinstance(tensor.data, np.ndarray):
        return tensor.data.size > _LONG_VALUES
    return sum(map(len, tensor.data)) > _LONG_BYTES


def pictures_or_pixels(tensor: Tensor) -> Tensor:
    """BYTES without the base64 around them, or UINT8 pixels. Raises BadParameter."""
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
    """Round crops [N, ...] to whole numbers, one after the other, as they may be many."""
    pixels = np.empty(crops.shape, np.uint8)
    for crop, target in zip(crops, pixels, strict=True):
        low, high = crop.min(), crop.max()
        if not (low >= 0 and high <= 255):  # nor where any is no number
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
