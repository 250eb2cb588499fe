"""ResNet in torchvision's form: the stride of a bottleneck lies in its 3x3 convolution (v1.5)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from export.registry import register
from export.sources import LibraryDownload
from service.manifest import Input, Paper, Protocols, ProtocolSpec, PublishedError, Resize

if TYPE_CHECKING:
    from torch import nn

_PAPER = Paper(
    title="Deep Residual Learning for Image Recognition", url="https://arxiv.org/abs/1512.03385"
)
_NOTICE = """\
The weights are those of torchvision (https://github.com/pytorch/vision), which is under the
BSD 3-Clause License. torchvision warns that pre-trained models may have licences or terms of
their own, derived from the data they were trained on: here ImageNet-1k, whose terms allow
non-commercial research and education.
"""


def _dense(network: nn.Module) -> nn.Module:
    from export.dense import resnet

    return resnet(network)


@register(
    name="resnet50",
    network="resnet50",
    family="resnet",
    year=2015,
    paper=_PAPER,
    source="torchvision",
    parameters=25_557_032,
    input=Input(
        height=224,
        width=224,
        channels=3,
        color="RGB",
        rescale=1 / 255,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
    ),
    resize=Resize(rule="shortest_side", size=256, interpolation="bilinear"),
    protocols=Protocols(
        default="center",
        supported=(
            ProtocolSpec(name="center"),
            ProtocolSpec(name="ten_crop"),
            # He et al. 2015, section 4: "fully-convolutional form ... at multiple scales"
            ProtocolSpec(name="dense", scales=(224, 256, 384, 480, 640)),
        ),
    ),
    dense=_dense,
    weights=LibraryDownload(
        tag="torchvision ResNet50_Weights.IMAGENET1K_V1",
        url="https://download.pytorch.org/models/resnet50-0676ba61.pth",
        spdx="BSD-3-Clause",
        notice=_NOTICE,
    ),
    published=(
        PublishedError(
            top1=23.87,
            top5=7.138,
            protocol="center, bilinear 256 to 224",
            source="torchvision ResNet50_Weights.IMAGENET1K_V1: acc@1 76.13, acc@5 92.862",
        ),
    ),
)
def resnet50() -> nn.Module:
    """ResNet-50: bottlenecks 3, 4, 6, 3."""
    from torchvision.models import resnet50 as create

    module: nn.Module = create(weights=None)
    return module
