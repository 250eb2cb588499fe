"""GoogLeNet with batch normalisation, as in torchvision; its pixels are rescaled in the network."""

from __future__ import annotations

from export.zoo.libraries import torchvision
from service.manifest import Paper

_PAPER = Paper(title="Going Deeper with Convolutions", url="https://arxiv.org/abs/1409.4842")

torchvision(
    name="googlenet",
    family="googlenet",
    year=2014,
    paper=_PAPER,
    parameters=6_624_904,
    multiply_adds=1_498_376_192,
    weights="GoogLeNet_Weights.IMAGENET1K_V1",
    file="googlenet-1378be20.pth",
    accuracy=(69.778, 89.53),
    options={"aux_logits": False, "init_weights": False, "transform_input": True},
    training_only=("aux1.", "aux2."),
)
