"""Network in Network, as its first author published it in Caffe's model zoo.

Caffe resizes whole pictures to 256x256, takes the centre 224x224 and subtracts a mean image, whose
means per channel are used here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from export.weights.sources import CheckpointOnly
from export.zoo.families.alexnet_2012 import CAFFE_MEAN
from export.zoo.libraries import bytes_minus, protocols
from export.zoo.registry import register
from service.manifest import Paper, PublishedError, Resize

if TYPE_CHECKING:
    from torch import nn

_GIST = "https://gist.github.com/mavenlin/d802a5849de39225bcc6"


@register(
    name="nin",
    network="nin",
    family="nin",
    year=2013,
    paper=Paper(title="Network In Network", url="https://arxiv.org/abs/1312.4400"),
    source="own",
    parameters=7_595_176,
    multiply_adds=1_100_188_800,
    input=bytes_minus(224, CAFFE_MEAN, "BGR"),
    resize=Resize(rule="square", size=256, interpolation="bilinear"),
    protocols=protocols(256),
    mean_image=True,
    weights=CheckpointOnly(known=f"nin_imagenet.caffemodel ({_GIST}) as a state dict, in order"),
    published=(
        PublishedError(
            top1=40.64,
            protocol="center; the source says that ten crops should be a bit better",
            source=f"{_GIST}: top-1 accuracy 59.36 %",
        ),
    ),
)
def nin(classes: int) -> nn.Module:
    """Network in Network: four mlpconv layers and global average pooling."""
    from export.zoo.architectures.nin import NetworkInNetwork

    return NetworkInNetwork(classes)
