"""Caffe's weights: a NetParameter in Protocol Buffers' wire format, read without Caffe.

message NetParameter { layers = 2 (V1LayerParameter { name = 4; blobs = 6 }, until 2014);
layer = 100 (LayerParameter { name = 1; blobs = 7 }) }
(https://github.com/BVLC/caffe/blob/master/src/caffe/proto/caffe.proto).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from export.data.caffe import fields, read_blob

SUFFIX = ".caffemodel"
_LAYERS = {2: (4, 6), 100: (1, 7)}
"""Field of a layer -> the fields of its name and its blobs."""
_STATISTICS = 3
"""A BatchNorm layer has a mean, a variance, and the number that both are to be divided by."""

Blob = npt.NDArray[np.float32]


def read(file: Path) -> dict[str, Tensor]:
    """The tensors of a ``.caffemodel``: ``<layer>.weight`` and ``<layer>.bias``.

    Of a BatchNorm layer ``<layer>.running_mean`` and ``.running_var``; its gain and shift are in a
    Scale layer of another name. Raises OSError, and ValueError when the file is no NetParameter.
    """
    tensors: dict[str, Tensor] = {}
    for field, _, value in fields(file.read_bytes()):
        if field in _LAYERS and isinstance(value, bytes):
            tensors |= _layer(value, *_LAYERS[field])
    if not tensors:
        raise ValueError("it holds no layers with weights")
    return tensors


def _layer(message: bytes, name_field: int, blob_field: int) -> dict[str, Tensor]:
    name, blobs = "", []
    for field, _, value in fields(message):
        if field == name_field and isinstance(value, bytes):
            name = value.decode("utf-8")
        elif field == blob_field and isinstance(value, bytes):
            blobs.append(read_blob(value))
    if len(blobs) == _STATISTICS and blobs[2].size == 1:
        factor = float(blobs[2].reshape(()))
        scale = 1 / factor if factor else 0.0  # as Caffe's batch_norm_layer.cpp does
        mean, variance = (torch.from_numpy(blob.reshape(-1)) * scale for blob in blobs[:2])
        return {f"{name}.running_mean": mean, f"{name}.running_var": variance}
    if len(blobs) > 2:
        raise ValueError(f"its layer {name} has {len(blobs)} blobs")
    return {
        f"{name}.{kind}": torch.from_numpy(_shaped(blob, kind).copy())
        for kind, blob in zip(("weight", "bias"), blobs, strict=False)
    }


def _shaped(blob: Blob, kind: str) -> Blob:
    """Without the leading ones that old files have: biases are [N], matrices [out, in]."""
    if kind == "bias":
        return blob.reshape(-1)
    if blob.ndim == 4 and blob.shape[:2] == (1, 1):
        return blob.reshape(blob.shape[2:])
    return blob
