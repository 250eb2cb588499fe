"""AlexNet as Krizhevsky, Sutskever and Hinton describe it (NIPS 2012, sections 3 and 4.2).

227x227 -> conv1 96@55 -> pool1 27 -> conv2 256@27 -> pool2 13 -> conv3 384, conv4 384, conv5
256@13 -> pool5 6 -> 4096 -> 4096 -> 1000; 60,965,224 parameters.

- The paper says 224x224, but 11x11 filters at stride 4 meet 55x55 maps only from 227x227.
- conv2, conv4 and conv5 see only the half of the maps that was on their own GPU: two groups.
- Response normalisation follows the ReLU of conv1 and conv2 and precedes the pooling (section
  3.5; BVLC's AlexNet too, but not its CaffeNet).
- Pooling windows overlap: 3x3 at stride 2 (section 3.4). Dropout acts in training alone.
- Two of the seven networks of Table 2 had "an extra sixth convolutional layer over the last pooling
  layer" and were trained on all of ImageNet first (section 6). The paper says no more of that
  layer: here it is conv5 once more, 256 maps of 3x3 in two groups, at 6x6; 61,260,392 parameters.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Literal

from torch import nn

from export.zoo.architectures.classic import Classic, Layers, last_features, three_layers
from export.zoo.architectures.local_response import caffe_form, paper_form


class AlexNet2012(Classic):
    """float32 [N, 3, 227, 227], mean subtracted -> logits float32 [N, 1000].

    ``response`` chooses the constants of the response normalisation: "paper" has k = 2 and
    alpha = 1e-4, "caffe" (BVLC's weights) k = 1 and alpha = 1e-4 / 5. ``sixth`` adds the
    convolution over the last pooling.
    """

    def __init__(
        self,
        response: Literal["paper", "caffe"] = "paper",
        *,
        sixth: bool = False,
        classes: int = 1000,
    ) -> None:
        normalisation = paper_form if response == "paper" else caffe_form
        features: Layers = [
            ("conv1", nn.Conv2d(3, 96, 11, stride=4)),
            ("relu1", nn.ReLU()),
            ("norm1", normalisation(96)),
            ("pool1", nn.MaxPool2d(3, 2)),
            ("conv2", nn.Conv2d(96, 256, 5, padding=2, groups=2)),
            ("relu2", nn.ReLU()),
            ("norm2", normalisation(256)),
            ("pool2", nn.MaxPool2d(3, 2)),
            *last_features(groups=2),
        ]
        if sixth:
            features += [
                ("conv6", nn.Conv2d(256, 256, 3, padding=1, groups=2)),
                ("relu6", nn.ReLU()),
            ]
        super().__init__(
            nn.Sequential(OrderedDict(features)),
            nn.Sequential(OrderedDict(three_layers(classes))),
        )
