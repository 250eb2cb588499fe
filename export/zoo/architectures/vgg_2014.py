"""VGG's configurations that no library has (Simonyan and Zisserman, ICLR 2015, Table 1).

A-LRN: configuration A (11 layers) with response normalisation after its first convolution; "the
parameters for the LRN layer are those of (Krizhevsky et al., 2012)". It has the 132,863,336
parameters of A.

C: 16 layers, of which the last convolution of each of the blocks 3, 4 and 5 is 1x1;
133,638,952 parameters ("134 million" in Table 2).
"""

from __future__ import annotations

from typing import Literal

from torch import nn

from export.zoo.architectures.classic import Classic
from export.zoo.architectures.local_response import paper_form

Layer = tuple[int, int] | Literal["pool", "norm"]
"""A convolution's maps and the side of its filters, or what stands between convolutions."""

A_LRN: tuple[Layer, ...] = (
    *((64, 3), "norm", "pool"),
    *((128, 3), "pool"),
    *((256, 3), (256, 3), "pool"),
    *((512, 3), (512, 3), "pool"),
    *((512, 3), (512, 3), "pool"),
)
C: tuple[Layer, ...] = (
    *((64, 3), (64, 3), "pool"),
    *((128, 3), (128, 3), "pool"),
    *((256, 3), (256, 3), (256, 1), "pool"),
    *((512, 3), (512, 3), (512, 1), "pool"),
    *((512, 3), (512, 3), (512, 1), "pool"),
)


class VGG2014(Classic):
    """float32 [N, 3, 224, 224], mean subtracted -> logits float32 [N, 1000]."""

    def __init__(self, layers: tuple[Layer, ...], classes: int = 1000) -> None:
        features: list[nn.Module] = []
        maps = 3
        for layer in layers:
            if layer == "pool":
                features.append(nn.MaxPool2d(2, 2))
            elif layer == "norm":
                features.append(paper_form(maps))
            else:
                width, side = layer
                features += [nn.Conv2d(maps, width, side, padding=side // 2), nn.ReLU()]
                maps = width
        classifier = nn.Sequential(
            nn.Linear(maps * 7 * 7, 4096),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(4096, 4096),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(4096, classes),
        )
        super().__init__(nn.Sequential(*features), classifier)
