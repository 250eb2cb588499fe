"""AlexNet as "Dive into Deep Learning" teaches it: gray pictures, ten classes of clothes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from export.weights.sources import CheckpointOnly
from export.zoo.registry import register
from service.manifest import Input, Paper, Protocols, ProtocolSpec, Resize

if TYPE_CHECKING:
    from torch import nn


@register(
    name="alexnet_d2l",
    network="alexnet_d2l",
    family="alexnet",
    year=2012,
    paper=Paper(
        title="Dive into Deep Learning, section 8.1: Deep Convolutional Neural Networks (AlexNet)",
        url="https://d2l.ai/chapter_convolutional-modern/alexnet.html",
    ),
    source="own",
    parameters=46_764_746,
    multiply_adds=938_146_176,
    input=Input(
        height=224,
        width=224,
        channels=1,
        color="L",
        rescale=1 / 255,
        mean=(0.0,),
        std=(1.0,),
    ),
    resize=Resize(rule="exact", size=224, interpolation="bilinear"),
    protocols=Protocols(default="center", supported=(ProtocolSpec(name="center"),)),
    classes=10,
    labels="fashion_mnist",
    weights=CheckpointOnly(known="the state dict of the book's AlexNet, trained on Fashion-MNIST"),
)
def alexnet_d2l(classes: int) -> nn.Module:
    """AlexNet with one input channel and ten classes; layers in the order of the book's."""
    from export.zoo.architectures.alexnet_d2l import AlexNetD2L

    return AlexNetD2L(classes)
