"""Hugging Face's transformers: its ResNet and ConvNeXt classifiers under the names of timm's."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

_RESNET = (
    (r"^resnet\.embedder\.embedder\.convolution\.", "conv1."),
    (r"^resnet\.embedder\.embedder\.normalization\.", "bn1."),
    (r"^classifier\.1\.", "fc."),
)
_RESNET_LAYER = re.compile(r"^resnet\.encoder\.stages\.(\d+)\.layers\.(\d+)\.(.+)$")
_RESNET_INSIDE = (
    (r"^shortcut\.convolution\.", "downsample.0."),
    (r"^shortcut\.normalization\.", "downsample.1."),
)
_RESNET_PART = re.compile(r"^layer\.(\d+)\.(convolution|normalization)\.(.+)$")
_CONVNEXT = (
    (r"^convnext\.embeddings\.patch_embeddings\.", "stem.0."),
    (r"^convnext\.embeddings\.layernorm\.", "stem.1."),
    (r"^convnext\.encoder\.stages\.(\d+)\.downsampling_layer\.", r"stages.\1.downsample."),
    (r"^convnext\.encoder\.stages\.(\d+)\.layers\.(\d+)\.", r"stages.\1.blocks.\2."),
    (r"^convnext\.layernorm\.", "head.norm."),
    (r"^classifier\.", "head.fc."),
)
_CONVNEXT_INSIDE = (
    (r"\.layer_scale_parameter$", ".gamma"),
    (r"\.dwconv\.", ".conv_dw."),
    (r"\.layernorm\.", ".norm."),
    (r"\.pwconv1\.", ".mlp.fc1."),
    (r"\.pwconv2\.", ".mlp.fc2."),
)


def renamed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """``tensors`` under the names of timm, where they are those of transformers; else as they are.

    ResNetForImageClassification and ConvNextForImageClassification are known.
    """
    if any(key.startswith("resnet.embedder.") for key in tensors):
        return {_resnet(key): tensor for key, tensor in tensors.items()}
    if any(key.startswith("convnext.embeddings.") for key in tensors):
        return {_convnext(key): tensor for key, tensor in tensors.items()}
    return dict(tensors)


def _resnet(key: str) -> str:
    layer = _RESNET_LAYER.match(key)
    if layer is None:
        return _replaced(key, _RESNET)
    stage, block, rest = int(layer[1]) + 1, layer[2], layer[3]
    part = _RESNET_PART.match(rest)
    if part is None:
        return f"layer{stage}.{block}.{_replaced(rest, _RESNET_INSIDE)}"
    kind = "conv" if part[2] == "convolution" else "bn"
    return f"layer{stage}.{block}.{kind}{int(part[1]) + 1}.{part[3]}"


def _convnext(key: str) -> str:
    outer = _replaced(key, _CONVNEXT)
    return _replaced(outer, _CONVNEXT_INSIDE) if ".blocks." in outer else outer


def _replaced(key: str, rules: tuple[tuple[str, str], ...]) -> str:
    for pattern, replacement in rules:
        key = re.sub(pattern, replacement, key)
    return key
