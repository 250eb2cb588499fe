"""ResNeSt: split attention in the bottlenecks of a ResNet, as in timm."""

from __future__ import annotations

from export.zoo.libraries import timm
from service.manifest import Paper

_PAPER = Paper(title="ResNeSt: Split-Attention Networks", url="https://arxiv.org/abs/2004.08955")

timm(
    name="resnest50d",
    network="resnest50d",
    tag="in1k",
    family="resnest",
    year=2020,
    paper=_PAPER,
    parameters=27_483_240,
    multiply_adds=5_371_160_576,
    crop_pct=0.875,
    interpolation="bilinear",
    errors=(19.042, 4.628),
)

timm(
    name="resnest101e",
    network="resnest101e",
    tag="in1k",
    family="resnest",
    year=2020,
    paper=_PAPER,
    parameters=48_275_016,
    multiply_adds=13_321_472_000,
    size=256,
    crop_pct=0.875,
    interpolation="bilinear",
    errors=(17.084, 3.69),
)

timm(
    name="resnest200e",
    network="resnest200e",
    tag="in1k",
    family="resnest",
    year=2020,
    paper=_PAPER,
    parameters=70_201_544,
    multiply_adds=35_519_694_848,
    size=320,
    crop_pct=0.909,
    interpolation="bicubic",
    errors=(16.12, 3.12),
)

timm(
    name="resnest269e",
    network="resnest269e",
    tag="in1k",
    family="resnest",
    year=2020,
    paper=_PAPER,
    parameters=110_929_480,
    multiply_adds=77_348_702_208,
    size=416,
    crop_pct=0.928,
    interpolation="bicubic",
    errors=(15.458, 3.012),
)
