"""ShuffleNet v1 with three groups (pytorchcv) and v2 (torchvision)."""

from __future__ import annotations

from export.zoo.libraries import pytorchcv, torchvision
from service.manifest import Paper

_V1 = Paper(
    title=("ShuffleNet: An Extremely Efficient Convolutional Neural Network for Mobile Devices"),
    url="https://arxiv.org/abs/1707.01083",
)
_V2 = Paper(
    title="ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture Design",
    url="https://arxiv.org/abs/1807.11164",
)


pytorchcv(
    name="shufflenet_v1_g3",
    network="shufflenet_g3_w1",
    family="shufflenet",
    year=2017,
    paper=_V1,
    parameters=1_865_728,
    multiply_adds=137_460_672,
    release="v0.0.244",
    file="shufflenet_g3_w1-1348-ce54f64e.pth",
    sha1="ce54f64ecff87556a4303380f46abaaf649eb308",
    top5=13.48,
)

torchvision(
    name="shufflenet_v2",
    network="shufflenet_v2_x1_0",
    family="shufflenet",
    year=2018,
    paper=_V2,
    parameters=2_278_604,
    multiply_adds=144_907_992,
    weights="ShuffleNet_V2_X1_0_Weights.IMAGENET1K_V1",
    file="shufflenetv2_x1-5666bf0f80.pth",
    accuracy=(69.362, 88.316),
)
