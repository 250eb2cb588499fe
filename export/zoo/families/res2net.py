"""Res2Net: several scales inside one bottleneck, as in timm."""

from __future__ import annotations

from export.zoo.libraries import timm
from service.manifest import Paper

_PAPER = Paper(
    title="Res2Net: A New Multi-scale Backbone Architecture", url="https://arxiv.org/abs/1904.01169"
)

timm(
    name="res2net50_26w_4s",
    network="res2net50_26w_4s",
    tag="in1k",
    family="res2net",
    year=2019,
    paper=_PAPER,
    parameters=25_699_120,
    multiply_adds=4_255_166_464,
    crop_pct=0.875,
    interpolation="bilinear",
    errors=(22.05, 6.148),
    spdx="unknown",
)
