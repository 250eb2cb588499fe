"""The shape that networks from 2012 to 2014 share: feature maps, flattened, then a classifier."""

from __future__ import annotations

from torch import Tensor, nn


class Classic(nn.Module):
    """``features`` float32 [N, C, H, W] -> maps, flattened, ``classifier`` -> [N, classes].

    torchvision's AlexNet and VGG have the same two parts; export/dense.py needs no more.
    """

    def __init__(self, features: nn.Sequential, classifier: nn.Sequential) -> None:
        super().__init__()
        self.features = features
        self.classifier = classifier

    def forward(self, pictures: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.features(pictures).flatten(1))
        return logits
