"""AlexNet in one tower without normalisation across channels, as in torchvision."""

from __future__ import annotations

from export.zoo.libraries import torchvision
from export.zoo.registry import dense_form
from service.manifest import Paper

_PAPER = Paper(
    title="One weird trick for parallelizing convolutional neural networks",
    url="https://arxiv.org/abs/1404.5997",
)


torchvision(
    name="alexnet",
    family="alexnet",
    year=2014,
    paper=_PAPER,
    parameters=61_100_840,
    multiply_adds=714_188_480,
    weights="AlexNet_Weights.IMAGENET1K_V1",
    file="alexnet-owt-7be5be79.pth",
    accuracy=(56.522, 79.066),
    peers=("pytorchcv:alexnetb",),
    dense=dense_form("classic"),
    scales=(256, 384, 512),
)
