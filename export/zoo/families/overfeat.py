"""OverFeat, the fast and the accurate model.

Their authors subtract one mean from all pixels and divide by one deviation: 118.380948 and
61.896913, the constants of their release (https://github.com/sermanet/OverFeat). They evaluate
densely, so that is what is done where nothing is asked for.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from export.weights.authors import OverFeatWeights
from export.zoo.libraries import bytes_minus, protocols
from export.zoo.registry import dense_form, register
from service.manifest import Paper, PublishedError, Resize

if TYPE_CHECKING:
    from torch import nn

MEAN, STD = 118.380948, 61.896913

_PAPER = Paper(
    title="OverFeat: Integrated Recognition, Localization and Detection using "
    "Convolutional Networks",
    url="https://arxiv.org/abs/1312.6229",
)
_MEANS, _DEVIATIONS = (MEAN, MEAN, MEAN), (STD, STD, STD)
_TABLE_5 = (245, 281, 317, 389, 425, 461)
"""The shorter sides of the paper's six scales."""


def _published(top1: float, top5: float, protocol: str) -> PublishedError:
    source = "Sermanet et al. 2014, Table 2"
    return PublishedError(top1=top1, top5=top5, protocol=protocol, source=source)


_overfeat = partial(
    register,
    family="overfeat",
    year=2013,
    paper=_PAPER,
    source="own",
    resize=Resize(rule="shortest_side", size=256, interpolation="bilinear"),
    # Table 2 has the accurate model at 4 of the 6 scales, and does not say which
    protocols=protocols(256, dense=_TABLE_5, default="dense"),
    dense=dense_form("overfeat"),
)


@_overfeat(
    name="overfeat_fast",
    network="overfeat_fast",
    parameters=145_920_872,
    multiply_adds=2_801_403_904,
    input=bytes_minus(231, _MEANS, "RGB", _DEVIATIONS),
    weights=OverFeatWeights(
        known="the authors' net_weight_0, with the list of its classes beside it, or a state dict"
    ),
    published=(
        _published(38.12, 16.27, "dense at 6 scales"),
        _published(39.01, 16.97, "dense at 1 scale"),
    ),
)
def overfeat_fast(classes: int) -> nn.Module:
    """OverFeat, fast model."""
    from export.zoo.architectures.overfeat import OverFeatFast

    return OverFeatFast(classes)


@_overfeat(
    name="overfeat_accurate",
    network="overfeat_accurate",
    parameters=144_656_488,
    multiply_adds=5_355_446_784,
    input=bytes_minus(221, _MEANS, "RGB", _DEVIATIONS),
    weights=OverFeatWeights(
        known="the authors' net_weight_1, with the list of its classes beside it, or a state dict"
    ),
    published=(_published(35.74, 14.18, "dense at 4 scales"),),
)
def overfeat_accurate(classes: int) -> nn.Module:
    """OverFeat, accurate model: a layer more, smaller strides."""
    from export.zoo.architectures.overfeat import OverFeatAccurate

    return OverFeatAccurate(classes)
