"""ZFNet: AlexNet with smaller filters and strides in front; and its wider form.

Preprocessing is section 3 of the paper, which subtracts the mean of every pixel; the means per
channel, which stand in where no mean image is given, are Caffe's of ImageNet. Ten crops are the
default, as the paper reports them.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from export.weights.sources import CheckpointOnly
from export.zoo.families.alexnet_2012 import CAFFE_MEAN
from export.zoo.libraries import bytes_minus, protocols
from export.zoo.registry import dense_form, register
from service.manifest import Paper, PublishedError, Resize

if TYPE_CHECKING:
    from torch import nn

_PYTORCHCV = "pytorchcv's copy fits but normalises contrast elsewhere, so its answers differ"

_PAPER = Paper(
    title="Visualizing and Understanding Convolutional Networks",
    url="https://arxiv.org/abs/1311.2901",
)


def _published(top1: float, top5: float, which: str) -> PublishedError:
    return PublishedError(
        top1=top1,
        top5=top5,
        protocol="ten_crop of the centre 256x256",
        source=f"Zeiler and Fergus 2014, Table 2: {which}",
    )


_zfnet = partial(
    register,
    family="zfnet",
    year=2013,
    paper=_PAPER,
    source="own",
    input=bytes_minus(224, CAFFE_MEAN[::-1], "RGB"),
    resize=Resize(rule="shortest_side", size=256, interpolation="bilinear", centre_square=True),
    protocols=protocols(256, dense=(256, 384, 512), default="ten_crop"),
    dense=dense_form("classic"),
    mean_image=True,
    weights=CheckpointOnly(known=_PYTORCHCV, strangers=("features.stage1.unit1.", _PYTORCHCV)),
)


@_zfnet(
    name="zfnet",
    network="zfnet",
    parameters=62_357_608,
    multiply_adds=1_168_032_896,
    published=(_published(38.4, 16.5, "1 convnet as per Fig. 3"),),
)
def zfnet(classes: int) -> nn.Module:
    """ZFNet with contrast normalised after the first two poolings."""
    from export.zoo.architectures.zfnet import ZFNet

    return ZFNet(classes=classes)


@_zfnet(
    name="zfnet_512",
    network="zfnet_512",
    parameters=107_627_624,
    multiply_adds=2_476_704_896,
    published=(_published(37.5, 16.0, "1 convnet with layers 3, 4, 5: 512, 1024, 512 maps"),),
)
def zfnet_512(classes: int) -> nn.Module:
    """ZFNet with 512, 1024 and 512 maps in its last convolutions."""
    from export.zoo.architectures.zfnet import ZFNet

    return ZFNet((512, 1024, 512), classes)
