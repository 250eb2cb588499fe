"""Xception: depthwise separable convolutions throughout, as in timm."""

from __future__ import annotations

from export.zoo.libraries import HALF, timm
from service.manifest import Paper

_PAPER = Paper(
    title="Xception: Deep Learning with Depthwise Separable Convolutions",
    url="https://arxiv.org/abs/1610.02357",
)
_RELEASE = "https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-cadene/"

timm(
    name="xception",
    network="legacy_xception",
    tag="tf_in1k",
    family="xception",
    year=2016,
    paper=_PAPER,
    parameters=22_855_952,
    multiply_adds=8_357_403_496,
    size=299,
    crop_pct=0.8975,
    interpolation="bicubic",
    mean=HALF,
    std=HALF,
    errors=(20.942, 5.604),
    url=_RELEASE + "xception-43020ad28.pth",
    peers=("pytorchcv:xception",),
)
