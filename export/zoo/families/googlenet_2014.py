"""GoogLeNet in the form of its paper: true 5x5 filters, response normalisation, auxiliary heads.

Constants and preprocessing are those of BVLC's GoogLeNet in Caffe, which resizes whole pictures to
256x256 and subtracts one mean per channel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from export.weights.sources import CheckpointOnly
from export.zoo.libraries import bytes_minus, protocols
from export.zoo.registry import register
from service.manifest import Paper, PublishedError, Resize

if TYPE_CHECKING:
    from torch import nn


def _published(top5: float, protocol: str) -> PublishedError:
    source = "Szegedy et al. 2015, Table 3: one model"
    return PublishedError(top5=top5, protocol=protocol, source=source)


@register(
    name="googlenet_2014",
    network="googlenet_2014",
    family="googlenet",
    year=2014,
    paper=Paper(title="Going Deeper with Convolutions", url="https://arxiv.org/abs/1409.4842"),
    source="own",
    parameters=6_998_552,
    multiply_adds=1_582_671_872,
    input=bytes_minus(224, (104.0, 117.0, 123.0), "BGR"),
    resize=Resize(rule="square", size=256, interpolation="bilinear"),
    protocols=protocols(256),
    # the prefixes that export/zoo/architectures/googlenet_2014.py gives its heads
    training_only=("head4a.", "head4d."),
    weights=CheckpointOnly(
        known="a state dict of this network; the auxiliary heads may be in it and are left out"
    ),
    published=(
        _published(10.07, "center"),
        _published(9.15, "ten_crop"),
        _published(7.89, "crops_144"),
    ),
)
def googlenet_2014(classes: int) -> nn.Module:
    """GoogLeNet without the heads that it has in training."""
    from export.zoo.architectures.googlenet_2014 import GoogLeNet2014

    return GoogLeNet2014(classes=classes)
