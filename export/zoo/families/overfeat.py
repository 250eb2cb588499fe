"""OverFeat's fast model.

Its authors subtract one mean from all pixels and divide by one deviation: 118.380948 and
61.896913, the constants of their release (https://github.com/sermanet/OverFeat).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from export.weights.sources import CheckpointOnly
from export.zoo.libraries import protocols
from export.zoo.registry import dense_form, register
from service.manifest import Input, Paper, PublishedError, Resize

if TYPE_CHECKING:
    from torch import nn

MEAN, STD = 118.380948, 61.896913


@register(
    name="overfeat_fast",
    network="overfeat_fast",
    family="overfeat",
    year=2013,
    paper=Paper(
        title="OverFeat: Integrated Recognition, Localization and Detection using "
        "Convolutional Networks",
        url="https://arxiv.org/abs/1312.6229",
    ),
    source="own",
    parameters=145_920_872,
    multiply_adds=2_801_403_904,
    input=Input(
        height=231,
        width=231,
        channels=3,
        color="RGB",
        rescale=1.0,
        mean=(MEAN, MEAN, MEAN),
        std=(STD, STD, STD),
    ),
    resize=Resize(rule="shortest_side", size=256, interpolation="bilinear"),
    # dense at the shorter sides of the paper's six scales, Table 5
    protocols=protocols(256, dense=(245, 281, 317, 389, 425, 461)),
    dense=dense_form("overfeat"),
    weights=CheckpointOnly(
        known="the authors' net_weight_0 as a state dict: 16 tensors in order, layers 6 to 8 flat"
    ),
    published=(
        PublishedError(
            dataset="ILSVRC-2013 test",
            top5=14.2,
            protocol="dense at several scales; 7 networks averaged, not one",
            source="Sermanet et al. 2014, section 3.5",
        ),
        PublishedError(
            dataset="ILSVRC-2013 test",
            top5=13.6,
            protocol="dense at several scales; 7 larger networks, after the competition",
            source="Sermanet et al. 2014, section 3.5",
        ),
    ),
)
def overfeat_fast(classes: int) -> nn.Module:
    """OverFeat, fast model."""
    from export.zoo.architectures.overfeat import OverFeatFast

    return OverFeatFast(classes)
