"""AlexNet as "Dive into Deep Learning" writes it, section 8.1 (https://d2l.ai), for Fashion-MNIST.

One channel, 224x224 -> 96@54 -> 26 -> 256@26 -> 12 -> 384, 384, 256@12 -> 5 -> 6400 -> 4096 ->
4096 -> 10; 46,764,746 parameters. The book drops what was due to two small GPUs: there are no
groups, and no response normalisation.
"""

from __future__ import annotations

from torch import nn

from export.zoo.architectures.classic import Classic


class AlexNetD2L(Classic):
    """float32 [N, 1, 224, 224] from 0 to 1 -> logits float32 [N, 10]."""

    def __init__(self, classes: int = 10) -> None:
        features = nn.Sequential(
            nn.Conv2d(1, 96, 11, stride=4, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(96, 256, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(256, 384, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(384, 384, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(384, 256, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
        )
        classifier = nn.Sequential(
            nn.Linear(256 * 5 * 5, 4096),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(4096, 4096),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(4096, classes),
        )
        super().__init__(features, classifier)
