"""Res2Net: several scales inside one bottleneck, as in timm."""

from __future__ import annotations

from export.zoo.libraries import timm
from service.manifest import Paper

_PAPER = Paper(
    title="Res2Net: A New Multi-scale Backbone Architecture", url="https://arxiv.org/abs/1904.01169"
)

for _name, _parameters, _multiply_adds, _errors in (
    ("res2net50_26w_4s", 25_699_120, 4_255_166_464, (22.006, 6.14)),
    ("res2net50_48w_2s", 25_287_304, 4_159_832_064, (22.472, 6.438)),
    ("res2net50_14w_8s", 25_059_816, 4_178_898_944, (21.858, 6.148)),
    ("res2net50_26w_6s", 37_051_448, 6_295_523_328, (21.414, 5.88)),
    ("res2net50_26w_8s", 48_403_776, 8_335_880_192, (21.05, 5.72)),
    ("res2net101_26w_4s", 45_206_688, 8_066_974_464, (20.808, 5.534)),
):
    timm(
        name=_name,
        network=_name,
        tag="in1k",
        family="res2net",
        year=2019,
        paper=_PAPER,
        parameters=_parameters,
        multiply_adds=_multiply_adds,
        crop_pct=0.875,
        interpolation="bilinear",
        errors=_errors,
        spdx="unknown",
    )
