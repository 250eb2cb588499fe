"""The shape that networks from 2012 to 2014 share: feature maps, flattened, then a classifier."""

from __future__ import annotations

from torch import Tensor, nn


class Classic(nn.Module):
    """``features`` float32 [N, C, H, W] -> maps, flattened, ``classifier`` -> [N, classes].

    torchvision's AlexNet and VGG have the same two parts; export/graph/dense.py needs no more.
    """

    def __init__(self, features: nn.Sequential, classifier: nn.Sequential) -> None:
        super().__init__()
        self.features = features
        self.classifier = classifier

    def forward(self, pictures: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.features(pictures).flatten(1))
        return logits


Layers = list[tuple[str, nn.Module]]


def last_features(groups: int, widths: tuple[int, int, int] = (384, 384, 256)) -> Layers:
    """AlexNet's maps from the second pooling on: conv3 to conv5 at 13x13, then 6x6."""
    third, fourth, fifth = widths
    return [
        ("conv3", nn.Conv2d(256, third, 3, padding=1)),
        ("relu3", nn.ReLU()),
        ("conv4", nn.Conv2d(third, fourth, 3, padding=1, groups=groups)),
        ("relu4", nn.ReLU()),
        ("conv5", nn.Conv2d(fourth, fifth, 3, padding=1, groups=groups)),
        ("relu5", nn.ReLU()),
        ("pool5", nn.MaxPool2d(3, 2)),
    ]


def three_layers(classes: int, maps: int = 256) -> Layers:
    """AlexNet's classifier of 256 maps of 6x6, or of another number."""
    return [
        ("fc6", nn.Linear(maps * 6 * 6, 4096)),
        ("relu6", nn.ReLU()),
        ("drop6", nn.Dropout(0.5)),
        ("fc7", nn.Linear(4096, 4096)),
        ("relu7", nn.ReLU()),
        ("drop7", nn.Dropout(0.5)),
        ("fc8", nn.Linear(4096, classes)),
    ]
