"""OverFeat, the fast and the accurate model (Sermanet et al., ICLR 2014, Tables 1 and 3).

fast: 231x231 -> conv1 96@56 -> pool 28 -> conv2 256@24 -> pool 12 -> conv3 512, conv4 1024, conv5
1024@12 -> pool 6 -> 3072 -> 4096 -> 1000; 145,920,872 parameters ("145 million" in Table 4).

accurate: 221x221 -> conv1 96@108 -> pool 36 -> conv2 256@30 -> pool 15 -> conv3, conv4 512, conv5,
conv6 1024@15 -> pool 5 -> 4096 -> 4096 -> 1000; 144,656,488 parameters ("144 million").

No response normalisation, and pooling windows that do not overlap. Table 1 gives layer 2 of the
fast model an input of 24x24, which is the size after its convolution: the authors' own weights
belong to a conv2 without padding.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from export.zoo.architectures.classic import Classic, Layers


class OverFeatFast(Classic):
    """float32 [N, 3, 231, 231], normalised -> logits float32 [N, 1000]."""

    def __init__(self, classes: int = 1000) -> None:
        features: Layers = [
            ("conv1", nn.Conv2d(3, 96, 11, stride=4)),
            ("relu1", nn.ReLU()),
            ("pool1", nn.MaxPool2d(2, 2)),
            ("conv2", nn.Conv2d(96, 256, 5)),
            ("relu2", nn.ReLU()),
            ("pool2", nn.MaxPool2d(2, 2)),
            ("conv3", nn.Conv2d(256, 512, 3, padding=1)),
            ("relu3", nn.ReLU()),
            ("conv4", nn.Conv2d(512, 1024, 3, padding=1)),
            ("relu4", nn.ReLU()),
            ("conv5", nn.Conv2d(1024, 1024, 3, padding=1)),
            ("relu5", nn.ReLU()),
            ("pool5", nn.MaxPool2d(2, 2)),
        ]
        classifier = _classifier(6, 1024 * 6 * 6, 3072, classes)
        super().__init__(nn.Sequential(OrderedDict(features)), classifier)


class OverFeatAccurate(Classic):
    """float32 [N, 3, 221, 221], normalised -> logits float32 [N, 1000]."""

    def __init__(self, classes: int = 1000) -> None:
        features: Layers = [
            ("conv1", nn.Conv2d(3, 96, 7, stride=2)),
            ("relu1", nn.ReLU()),
            ("pool1", nn.MaxPool2d(3, 3)),
            ("conv2", nn.Conv2d(96, 256, 7)),
            ("relu2", nn.ReLU()),
            ("pool2", nn.MaxPool2d(2, 2)),
            ("conv3", nn.Conv2d(256, 512, 3, padding=1)),
            ("relu3", nn.ReLU()),
            ("conv4", nn.Conv2d(512, 512, 3, padding=1)),
            ("relu4", nn.ReLU()),
            ("conv5", nn.Conv2d(512, 1024, 3, padding=1)),
            ("relu5", nn.ReLU()),
            ("conv6", nn.Conv2d(1024, 1024, 3, padding=1)),
            ("relu6", nn.ReLU()),
            ("pool6", nn.MaxPool2d(3, 3)),
        ]
        classifier = _classifier(7, 1024 * 5 * 5, 4096, classes)
        super().__init__(nn.Sequential(OrderedDict(features)), classifier)


def _classifier(first: int, inputs: int, width: int, classes: int) -> nn.Sequential:
    """Three layers, the first of which is layer ``first`` of the paper."""
    layers: Layers = [
        (f"fc{first}", nn.Linear(inputs, width)),
        (f"relu{first}", nn.ReLU()),
        (f"drop{first}", nn.Dropout(0.5)),
        (f"fc{first + 1}", nn.Linear(width, 4096)),
        (f"relu{first + 1}", nn.ReLU()),
        (f"drop{first + 1}", nn.Dropout(0.5)),
        (f"fc{first + 2}", nn.Linear(4096, classes)),
    ]
    return nn.Sequential(OrderedDict(layers))
