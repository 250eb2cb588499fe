"""ZFNet (Zeiler and Fergus, ECCV 2014, Figure 3).

224x224 -> conv1 96@110 -> pool1 55 -> conv2 256@26 -> pool2 13 -> conv3 384, conv4 384, conv5
256@13 -> pool5 6 -> 4096 -> 4096 -> 1000; 62,357,608 parameters.

- 110 maps of 7x7 filters at stride 2 need one pixel of padding, and 55 and 13 need poolings that
  keep their last, incomplete window: the paper gives the sizes alone.
- Contrast is normalised across maps after each of the first two poolings (Figure 3: conv, ReLU,
  pooling, normalisation), with AlexNet's constants, since the paper names none. The copies of
  pytorchcv and of Caffe normalise before the pooling, and divide alpha by 5.
- Unlike AlexNet there are no groups: one GPU held it all (section 3).
- The sixth of the paper's six networks has 512, 1024 and 512 maps in conv3 to conv5 (Table 2, b).
"""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from export.zoo.architectures.classic import Classic, Layers, last_features, three_layers
from export.zoo.architectures.local_response import paper_form


class ZFNet(Classic):
    """float32 [N, 3, 224, 224], mean subtracted -> logits float32 [N, 1000].

    ``widths`` are the maps of conv3, conv4 and conv5.
    """

    def __init__(self, widths: tuple[int, int, int] = (384, 384, 256), classes: int = 1000) -> None:
        features: Layers = [
            ("conv1", nn.Conv2d(3, 96, 7, stride=2, padding=1)),
            ("relu1", nn.ReLU()),
            ("pool1", nn.MaxPool2d(3, 2, ceil_mode=True)),
            ("norm1", paper_form(96)),
            ("conv2", nn.Conv2d(96, 256, 5, stride=2)),
            ("relu2", nn.ReLU()),
            ("pool2", nn.MaxPool2d(3, 2, ceil_mode=True)),
            ("norm2", paper_form(256)),
            *last_features(1, widths),
        ]
        super().__init__(
            nn.Sequential(OrderedDict(features)),
            nn.Sequential(OrderedDict(three_layers(classes, widths[-1]))),
        )
