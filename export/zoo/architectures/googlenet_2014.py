"""GoogLeNet (Szegedy et al., "Going deeper with convolutions", CVPR 2015, section 5, Table 1).

224x224 -> 64@112 -> 56 -> 192@56 -> 28 -> 3a, 3b@28 -> 14 -> 4a to 4e@14 -> 7 -> 5a, 5b@7 ->
mean -> 1000; 6,998,552 parameters without the auxiliary heads, 13,378,280 with both.

- The 5x5 branch has true 5x5 filters; torchvision's ``googlenet`` has 3x3 ones there, and batch
  normalisation, which came later.
- Response normalisation after the first pooling and before the second (Figure 3) has the
  constants of BVLC's GoogLeNet: k = 1, alpha = 1e-4 / 5.
- Every pooling keeps its last, incomplete window, which the sizes of Table 1 need.
- Two auxiliary heads, on 4a and 4d, add their loss in training and "at inference time these
  auxiliary networks are discarded".
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

import torch
from torch import Tensor, nn

from export.zoo.architectures.local_response import caffe_form

HEADS = ("head4a.", "head4d.")
"""How the keys of the auxiliary heads begin in a state dict."""


class Widths(NamedTuple):
    """A row of Table 1: maps of each branch of an inception module."""

    one: int
    three_reduce: int
    three: int
    five_reduce: int
    five: int
    pool: int

    @property
    def total(self) -> int:
        """Maps that the module yields."""
        return self.one + self.three + self.five + self.pool


TABLE_1 = {
    "3a": Widths(64, 96, 128, 16, 32, 32),
    "3b": Widths(128, 128, 192, 32, 96, 64),
    "4a": Widths(192, 96, 208, 16, 48, 64),
    "4b": Widths(160, 112, 224, 24, 64, 64),
    "4c": Widths(128, 128, 256, 24, 64, 64),
    "4d": Widths(112, 144, 288, 32, 64, 64),
    "4e": Widths(256, 160, 320, 32, 128, 128),
    "5a": Widths(256, 160, 320, 32, 128, 128),
    "5b": Widths(384, 192, 384, 48, 128, 128),
}


def conv(maps: int, width: int, size: int, stride: int = 1) -> nn.Sequential:
    """A convolution that keeps the picture's size (but for its stride), with a ReLU."""
    return nn.Sequential(
        nn.Conv2d(maps, width, size, stride=stride, padding=size // 2), nn.ReLU(inplace=True)
    )


class Inception(nn.Module):
    """Figure 2b: 1x1, 3x3, 5x5 and pooling branches side by side, each with its reduction."""

    def __init__(self, maps: int, widths: Widths) -> None:
        super().__init__()
        self.one = conv(maps, widths.one, 1)
        self.three = nn.Sequential(
            conv(maps, widths.three_reduce, 1), conv(widths.three_reduce, widths.three, 3)
        )
        self.five = nn.Sequential(
            conv(maps, widths.five_reduce, 1), conv(widths.five_reduce, widths.five, 5)
        )
        self.pool = nn.Sequential(nn.MaxPool2d(3, 1, padding=1), conv(maps, widths.pool, 1))

    def forward(self, maps: Tensor) -> Tensor:
        branches = [self.one(maps), self.three(maps), self.five(maps), self.pool(maps)]
        return torch.cat(branches, dim=1)


def head(maps: int, classes: int) -> nn.Sequential:
    """An auxiliary classifier, section 5: 5x5 average pooling at stride 3, 1x1 to 128 maps, ..."""
    return nn.Sequential(
        nn.AvgPool2d(5, 3),
        conv(maps, 128, 1),
        nn.Flatten(),
        nn.Linear(128 * 4 * 4, 1024),
        nn.ReLU(inplace=True),
        nn.Dropout(0.7),
        nn.Linear(1024, classes),
    )


class GoogLeNet2014(nn.Module):
    """float32 [N, 3, 224, 224], mean subtracted -> logits float32 [N, 1000].

    With ``heads`` the auxiliary heads are there: in training mode the network then yields its
    logits and those of the heads on 4a and 4d; in evaluation mode they are not computed.
    """

    def __init__(self, *, heads: bool = False, classes: int = 1000) -> None:
        super().__init__()
        stem: list[tuple[str, nn.Module]] = [
            ("conv1", conv(3, 64, 7, stride=2)),
            ("pool1", nn.MaxPool2d(3, 2, ceil_mode=True)),
            ("norm1", caffe_form(64)),
            ("conv2_reduce", conv(64, 64, 1)),
            ("conv2", conv(64, 192, 3)),
            ("norm2", caffe_form(192)),
            ("pool2", nn.MaxPool2d(3, 2, ceil_mode=True)),
        ]
        self.stem = nn.Sequential(OrderedDict(stem))
        maps = 192
        for name, widths in TABLE_1.items():
            self.add_module(f"inception{name}", Inception(maps, widths))
            maps = widths.total
        self.pool = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.dropout = nn.Dropout(0.4)
        self.fc = nn.Linear(maps, classes)
        self.head4a = head(TABLE_1["4a"].total, classes) if heads else None
        self.head4d = head(TABLE_1["4d"].total, classes) if heads else None

    def forward(self, pictures: Tensor) -> Tensor | tuple[Tensor, Tensor, Tensor]:
        maps = self.stem(pictures)
        seen = {}
        for name in TABLE_1:
            if name in ("4a", "5a"):
                maps = self.pool(maps)
            seen[name] = maps = self.get_submodule(f"inception{name}")(maps)
        logits: Tensor = self.fc(self.dropout(maps.mean(dim=(2, 3))))
        if self.training and self.head4a is not None and self.head4d is not None:
            return logits, self.head4a(seen["4a"]), self.head4d(seen["4d"])
        return logits
