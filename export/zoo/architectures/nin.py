"""Network in Network (Lin, Chen and Yan, ICLR 2014), in its authors' form for ImageNet.

The paper describes mlpconv layers (section 3.1: a convolution and two layers of 1x1 convolutions,
each with a ReLU) and global average pooling instead of a classifier (section 3.2), but no network
for ImageNet. Its first author published one in Caffe's model zoo (nin_imagenet,
https://gist.github.com/mavenlin/d802a5849de39225bcc6), which this is: 224x224 -> 96@54 -> 27 ->
256@27 -> 13 -> 384@13 -> 6 -> 1000@6 -> mean; 7,595,176 parameters.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn


def mlpconv(
    maps: int, size: int, widths: tuple[int, int, int], *, stride: int = 1, padding: int = 0
) -> nn.Sequential:
    """A size x size convolution, then two of 1x1, a ReLU after each; ``widths`` are their maps."""
    first, second, third = widths
    return nn.Sequential(
        nn.Conv2d(maps, first, size, stride=stride, padding=padding),
        nn.ReLU(),
        nn.Conv2d(first, second, 1),
        nn.ReLU(),
        nn.Conv2d(second, third, 1),
        nn.ReLU(),
    )


class NetworkInNetwork(nn.Module):
    """float32 [N, 3, 224, 224], mean subtracted -> logits float32 [N, 1000].

    Poolings keep their last, incomplete window, as Caffe's do. The last ReLU precedes the
    averaging, so logits are never negative.
    """

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        features: list[tuple[str, nn.Module]] = [
            ("mlpconv1", mlpconv(3, 11, (96, 96, 96), stride=4)),
            ("pool1", nn.MaxPool2d(3, 2, ceil_mode=True)),
            ("mlpconv2", mlpconv(96, 5, (256, 256, 256), padding=2)),
            ("pool2", nn.MaxPool2d(3, 2, ceil_mode=True)),
            ("mlpconv3", mlpconv(256, 3, (384, 384, 384), padding=1)),
            ("pool3", nn.MaxPool2d(3, 2, ceil_mode=True)),
            ("drop3", nn.Dropout(0.5)),
            ("mlpconv4", mlpconv(384, 3, (1024, 1024, classes), padding=1)),
        ]
        self.features = nn.Sequential(OrderedDict(features))

    def forward(self, pictures: Tensor) -> Tensor:
        logits: Tensor = self.features(pictures).mean(dim=(2, 3))
        return logits
