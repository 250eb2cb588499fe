"""AlexNet in the form of its paper, with two groups and response normalisation.

Preprocessing is section 2: "we did not pre-process the images in any other way, except for
subtracting the mean activity over the training set from each pixel. So we trained our network on
the (centered) raw RGB values of the pixels"; the shorter side becomes 256 and the centre 256x256 is
taken. The means per channel, which stand in where no mean image is given, are Caffe's of ImageNet.
The paper reports ten crops (section 4.1), so they are the default. BVLC's copy in Caffe is another
entry: squares of 256 in the order blue, green, red, one crop, and k = 1.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from export.weights.sources import CheckpointOnly
from export.zoo.libraries import bytes_minus, protocols
from export.zoo.registry import dense_form, register
from service.manifest import Paper, PublishedError, Resize

if TYPE_CHECKING:
    from torch import nn

CAFFE_MEAN = (104.00699, 116.66877, 122.67892)
"""Blue, green, red: the means of Caffe's imagenet_mean.binaryproto."""
_PAPER = Paper(
    title="ImageNet Classification with Deep Convolutional Neural Networks",
    url="https://papers.nips.cc/paper/2012/hash/c399862d3b9d6b76c8436e924a68c45b-Abstract.html",
)
_BVLC = "https://github.com/BVLC/caffe/tree/master/models/bvlc_alexnet"
_TEN_CROP = "ten_crop of the centre 256x256; one network of the paper"
_CENTRE = Resize(rule="shortest_side", size=256, interpolation="bilinear", centre_square=True)


_alexnet = partial(
    register,
    family="alexnet",
    year=2012,
    paper=_PAPER,
    source="own",
    dense=dense_form("classic"),
    mean_image=True,
)


@_alexnet(
    name="alexnet_2012",
    network="alexnet_2012",
    parameters=60_965_224,
    multiply_adds=724_406_816,
    input=bytes_minus(227, CAFFE_MEAN[::-1], "RGB"),
    resize=_CENTRE,
    protocols=protocols(256, dense=(256, 384, 512), default="ten_crop"),
    weights=CheckpointOnly(
        known="cuda-convnet's were never published; BVLC's are for alexnet_bvlc"
    ),
    published=(
        PublishedError(
            top1=40.7,
            top5=18.2,
            protocol=_TEN_CROP,
            source="Krizhevsky et al. 2012, Table 2: 1 CNN",
        ),
    ),
)
def alexnet_2012(classes: int) -> nn.Module:
    """AlexNet with the paper's response normalisation: k = 2, n = 5, alpha = 1e-4, beta = 0.75."""
    from export.zoo.architectures.alexnet_2012 import AlexNet2012

    return AlexNet2012("paper", classes=classes)


@_alexnet(
    name="alexnet_2012_pretrained",
    network="alexnet_2012_pretrained",
    parameters=61_260_392,
    multiply_adds=735_023_648,
    input=bytes_minus(227, CAFFE_MEAN[::-1], "RGB"),
    resize=_CENTRE,
    protocols=protocols(256, dense=(256, 384, 512), default="ten_crop"),
    weights=CheckpointOnly(known="cuda-convnet's were never published"),
    published=(
        PublishedError(
            top1=39.0,
            top5=16.6,
            protocol=f"{_TEN_CROP}, trained on ImageNet Fall 2011 first",
            source="Krizhevsky et al. 2012, Table 2: 1 CNN*",
        ),
    ),
)
def alexnet_2012_pretrained(classes: int) -> nn.Module:
    """AlexNet with a sixth convolution over the last pooling, for all of ImageNet at first."""
    from export.zoo.architectures.alexnet_2012 import AlexNet2012

    return AlexNet2012("paper", sixth=True, classes=classes)


@_alexnet(
    name="alexnet_bvlc",
    network="alexnet_bvlc",
    parameters=60_965_224,
    multiply_adds=724_406_816,
    input=bytes_minus(227, CAFFE_MEAN, "BGR"),
    resize=Resize(rule="square", size=256, interpolation="bilinear"),
    protocols=protocols(256, dense=(256, 384, 512)),
    weights=CheckpointOnly(known=f"bvlc_alexnet.caffemodel ({_BVLC}), as it is or as a state dict"),
    published=(
        PublishedError(
            top1=42.9,
            top5=19.8,
            protocol="center",
            source=f"{_BVLC}/readme.md: top-1 accuracy 57.1 %, top-5 accuracy 80.2 %",
        ),
    ),
)
def alexnet_bvlc(classes: int) -> nn.Module:
    """AlexNet as BVLC trained it in Caffe, whose response normalisation has k = 1."""
    from export.zoo.architectures.alexnet_2012 import AlexNet2012

    return AlexNet2012("caffe", classes=classes)
