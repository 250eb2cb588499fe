"""ResNet-50, -101 and -152 as their authors published them (He et al., CVPR 2016, Table 1).

224x224 -> conv1 64@112 -> pool1 56 -> conv2_x 256@56 -> conv3_x 512@28 -> conv4_x 1024@14 ->
conv5_x 2048@7 -> mean -> 1000. Two things differ from torchvision's networks, by the authors'
prototxt (https://github.com/KaimingHe/deep-residual-networks):

- The stride of a bottleneck lies in its first 1x1 convolution, not in the 3x3.
- The first pooling does not pad; it keeps its last, incomplete window, as Caffe's do.

WRN-68-2 of Trimps-Soushen (ILSVRC 2016) is here too, with 3x3 convolutions twice as wide as a
bottleneck of ResNet has them (Zagoruyko and Komodakis 2016). The team published its name alone:
the form is torchvision's wide ResNet, and 22 bottlenecks of three layers, with the first
convolution and the last layer, make 68; that they are 3, 4, 12 and 3 is our choice.
"""

from __future__ import annotations

from torch import nn
from torchvision.models.resnet import Bottleneck, ResNet

MSRA = {50: [3, 4, 6, 3], 101: [3, 4, 23, 3], 152: [3, 8, 36, 3]}
"""Layers -> bottlenecks of each stage."""
WRN_68 = [3, 4, 12, 3]


def resnet_msra(layers: int, classes: int = 1000) -> ResNet:
    """float32 [N, 3, 224, 224], mean subtracted -> logits float32 [N, 1000].

    Tensors have the names of torchvision's ResNet.
    """
    network = ResNet(Bottleneck, MSRA[layers], num_classes=classes)
    network.maxpool = nn.MaxPool2d(3, 2, ceil_mode=True)
    for block in network.modules():
        if isinstance(block, Bottleneck):
            block.conv1.stride, block.conv2.stride = block.conv2.stride, block.conv1.stride
    return network


def wrn_68_2(classes: int = 1000) -> ResNet:
    """float32 [N, 3, 224, 224], normalised -> logits float32 [N, 1000]."""
    return ResNet(Bottleneck, WRN_68, num_classes=classes, width_per_group=128)
