"""Wide ResNet: ResNet with bottlenecks twice as wide, as in torchvision; WRN-68-2 is our own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from export.weights.sources import CheckpointOnly
from export.zoo.libraries import protocols, rgb, shortest_side, torchvision
from export.zoo.registry import register
from service.manifest import Paper

if TYPE_CHECKING:
    from torch import nn

_PAPER = Paper(
    title="Wide Residual Networks",
    url="https://arxiv.org/abs/1605.07146",
)
_NETWORKS = (
    # name, checkpoint, parameters, multiply-adds, accuracy top-1 and top-5 in percent
    (
        "wide_resnet50_2",
        "wide_resnet50_2-95faca4d.pth",
        68_883_240,
        11_398_021_120,
        (78.468, 94.086),
    ),
    (
        "wide_resnet101_2",
        "wide_resnet101_2-32ee1156.pth",
        126_886_696,
        22_753_050_624,
        (78.848, 94.284),
    ),
)

for _name, _file, _parameters, _multiply_adds, _accuracy in _NETWORKS:
    torchvision(
        name=_name,
        family="wide_resnet",
        year=2016,
        paper=_PAPER,
        parameters=_parameters,
        multiply_adds=_multiply_adds,
        weights=f"{_name.replace('wide_resnet', 'Wide_ResNet')}_Weights.IMAGENET1K_V1",
        file=_file,
        accuracy=_accuracy,
        peers=(f"timm:{_name}",),
    )


@register(
    name="wrn_68_2",
    network="wrn_68_2",
    family="wide_resnet",
    year=2016,
    paper=_PAPER,
    source="own",
    parameters=89_355_048,
    multiply_adds=15_405_678_592,
    input=rgb(224),
    resize=shortest_side(256, "bilinear"),
    protocols=protocols(256),
    weights=CheckpointOnly(known="Trimps-Soushen never published theirs"),
)
def wrn_68_2(classes: int) -> nn.Module:
    """A member of Trimps-Soushen's ensemble of 2016; how its layers are spread is our reading."""
    from export.zoo.architectures.resnet_v1 import wrn_68_2

    network: nn.Module = wrn_68_2(classes)
    return network
