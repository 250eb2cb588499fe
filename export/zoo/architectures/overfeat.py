"""OverFeat, the fast model (Sermanet et al., ICLR 2014, section 3.2, Table 1).

231x231 -> conv1 96@56 -> pool 28 -> conv2 256@24 -> pool 12 -> conv3 512, conv4 1024, conv5
1024@12 -> pool 6 -> 3072 -> 4096 -> 1000; 145,920,872 parameters ("145 million" in Table 4).

No response normalisation, and pooling windows that do not overlap. Table 1 gives layer 2 an
input of 24x24, which is the size after its convolution: the authors' own weights belong to a
conv2 without padding.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from export.zoo.architectures.classic import Classic


class OverFeatFast(Classic):
    """float32 [N, 3, 231, 231], normalised -> logits float32 [N, 1000]."""

    def __init__(self, classes: int = 1000) -> None:
        features: list[tuple[str, nn.Module]] = [
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
        classifier: list[tuple[str, nn.Module]] = [
            ("fc6", nn.Linear(1024 * 6 * 6, 3072)),
            ("relu6", nn.ReLU()),
            ("drop6", nn.Dropout(0.5)),
            ("fc7", nn.Linear(3072, 4096)),
            ("relu7", nn.ReLU()),
            ("drop7", nn.Dropout(0.5)),
            ("fc8", nn.Linear(4096, classes)),
        ]
        super().__init__(
            nn.Sequential(OrderedDict(features)), nn.Sequential(OrderedDict(classifier))
        )
