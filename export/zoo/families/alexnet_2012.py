"""AlexNet in the form of its paper, with two groups and response normalisation.

Preprocessing is section 2: the shorter side becomes 256, the centre 256x256 is taken, and the mean
of every pixel is subtracted; the colour order and the means per channel, which stand in where no
mean image is given, are those of BVLC's AlexNet in Caffe.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from export.weights.sources import CheckpointOnly
from export.zoo.libraries import protocols
from export.zoo.registry import dense_form, register
from service.manifest import Input, Paper, PublishedError, Resize

if TYPE_CHECKING:
    from torch import nn

CAFFE_MEAN = (104.00699, 116.66877, 122.67892)
"""Blue, green, red: the means of Caffe's imagenet_mean.binaryproto."""


@register(
    name="alexnet_2012",
    network="alexnet_2012",
    family="alexnet",
    year=2012,
    paper=Paper(
        title="ImageNet Classification with Deep Convolutional Neural Networks",
        url="https://papers.nips.cc/paper/2012/hash/c399862d3b9d6b76c8436e924a68c45b-Abstract.html",
    ),
    source="own",
    parameters=60_965_224,
    multiply_adds=724_406_816,
    input=Input(
        height=227,
        width=227,
        channels=3,
        color="BGR",
        rescale=1.0,
        mean=CAFFE_MEAN,
        std=(1.0, 1.0, 1.0),
    ),
    resize=Resize(rule="shortest_side", size=256, interpolation="bilinear", centre_square=True),
    protocols=protocols(256, dense=(256, 384, 512)),
    dense=dense_form("classic"),
    mean_image=True,
    weights=CheckpointOnly(
        known="cuda-convnet's were never published; BVLC's were trained with Caffe's k = 1"
    ),
    published=(
        PublishedError(
            top1=40.7,
            top5=18.2,
            protocol="ten_crop of the centre 256x256; one network of the paper",
            source="Krizhevsky et al. 2012, Table 2: 1 CNN",
        ),
    ),
)
def alexnet_2012(classes: int) -> nn.Module:
    """AlexNet with the paper's response normalisation: k = 2, n = 5, alpha = 1e-4, beta = 0.75."""
    from export.zoo.architectures.alexnet_2012 import AlexNet2012

    return AlexNet2012("paper", classes)
