"""ResNet-50, -101 and -152 in the paper's form: the stride lies in the first 1x1 convolution.

``…_msra`` are the authors' networks in Caffe: blue, green, red minus the mean, and a first pooling
that does not pad. ``…_v1`` are pytorchcv's, which pads there and was trained on RGB.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from export.weights.authors import CaffeResNetWeights
from export.zoo.families.alexnet_2012 import CAFFE_MEAN
from export.zoo.families.resnet import PAPER, SCALES
from export.zoo.libraries import bytes_minus, protocols, pytorchcv, shortest_side
from export.zoo.registry import dense_form, register
from service.manifest import PublishedError

if TYPE_CHECKING:
    from torch import nn

_AUTHORS = "https://github.com/KaimingHe/deep-residual-networks"
_NETWORKS = (
    # layers, parameters, multiply-adds, pytorchcv's release, top-5 error and SHA-1
    (50, 25_557_032, 3_857_973_248, "v0.0.329", 6.33, "b00d1c8e52aa7a2badc705b1545aaf6ccece6ce9"),
    (101, 44_549_160, 7_570_194_432, "v0.0.499", 5.4, "65faf44721096a75fa72b875efb416513f864078"),
    (152, 60_192_808, 11_282_415_616, "v0.0.518", 4.68, "d46977ddb5660bb523e9f2de50e5d16cef8e3027"),
)
_CENTER = {50: (24.7, 7.8), 101: (23.6, 7.1), 152: (23.0, 6.7)}
_TEN_CROP = {50: (22.9, 6.7), 101: (21.8, 6.1), 152: (21.4, 5.7)}
_DENSE = {50: (20.74, 5.25), 101: (19.87, 4.6), 152: (19.38, 4.49)}
_INPUT = bytes_minus(224, CAFFE_MEAN, "BGR")


def _published(layers: int) -> tuple[PublishedError, ...]:
    return tuple(
        PublishedError(top1=errors[layers][0], top5=errors[layers][1], protocol=words, source=where)
        for errors, words, where in (
            (_CENTER, "center, 256 to 224", f"{_AUTHORS}: 1-crop validation error"),
            (_TEN_CROP, "ten_crop, 256 to 224", f"{_AUTHORS}: 10-crop validation error"),
            (_DENSE, "dense at 224, 256, 384, 480 and 640", "He et al. 2015, table 4"),
        )
    )


def _msra(layers: int, classes: int) -> nn.Module:
    from export.zoo.architectures.resnet_v1 import resnet_msra

    network: nn.Module = resnet_msra(layers, classes)
    return network


for _layers, _parameters, _multiply_adds, _release, _top5, _sha1 in _NETWORKS:
    register(
        name=f"resnet{_layers}_msra",
        network=f"resnet{_layers}_msra",
        family="resnet",
        year=2015,
        paper=PAPER,
        source="own",
        parameters=_parameters,
        multiply_adds=_multiply_adds,
        input=_INPUT,
        resize=shortest_side(256, "bilinear"),
        protocols=protocols(256, SCALES),
        dense=dense_form("resnet"),
        mean_image=True,
        weights=CaffeResNetWeights(
            known=f"ResNet-{_layers}-model.caffemodel of the authors ({_AUTHORS})"
        ),
        published=_published(_layers),
    )(partial(_msra, _layers))
    pytorchcv(
        name=f"resnet{_layers}_v1",
        network=f"resnet{_layers}",
        family="resnet",
        year=2015,
        paper=PAPER,
        parameters=_parameters,
        multiply_adds=_multiply_adds,
        release=_release,
        file=f"resnet{_layers}-{round(_top5 * 100):04}-{_sha1[:8]}.pth",
        sha1=_sha1,
        top5=_top5,
    )
