"""ZFNet: AlexNet with smaller filters and strides in front.

Preprocessing is section 3 of the paper, which subtracts the mean of every pixel; the means per
channel, which stand in where no mean image is given, are Caffe's of ImageNet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from export.weights.sources import CheckpointOnly
from export.zoo.libraries import protocols
from export.zoo.registry import dense_form, register
from service.manifest import Input, Paper, PublishedError, Resize

if TYPE_CHECKING:
    from torch import nn

_PYTORCHCV = "pytorchcv's zfnet fits but normalises contrast elsewhere, so its answers differ"


@register(
    name="zfnet",
    network="zfnet",
    family="zfnet",
    year=2013,
    paper=Paper(
        title="Visualizing and Understanding Convolutional Networks",
        url="https://arxiv.org/abs/1311.2901",
    ),
    source="own",
    parameters=62_357_608,
    multiply_adds=1_168_032_896,
    input=Input(
        height=224,
        width=224,
        channels=3,
        color="RGB",
        rescale=1.0,
        mean=(122.67892, 116.66877, 104.00699),
        std=(1.0, 1.0, 1.0),
    ),
    resize=Resize(rule="shortest_side", size=256, interpolation="bilinear", centre_square=True),
    protocols=protocols(256, dense=(256, 384, 512)),
    dense=dense_form("classic"),
    mean_image=True,
    weights=CheckpointOnly(
        known=_PYTORCHCV,
        strangers=("features.stage1.unit1.", _PYTORCHCV),
    ),
    published=(
        PublishedError(
            dataset="ImageNet-1k test",
            top5=14.8,
            protocol="ten_crop of the centre 256x256; 6 networks averaged, not one",
            source="Zeiler and Fergus 2014, Table 2",
        ),
        PublishedError(
            dataset="ILSVRC-2013 test",
            top5=13.5,
            protocol="the ensemble that the team ZF entered",
            source="https://image-net.org/challenges/LSVRC/2013/results.php",
        ),
    ),
)
def zfnet(classes: int) -> nn.Module:
    """ZFNet with contrast normalised after the first two poolings."""
    from export.zoo.architectures.zfnet import ZFNet

    return ZFNet(classes)
