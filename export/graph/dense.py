"""Make networks fully convolutional, to slide over whole pictures (the protocol ``dense``).

Simonyan and Zisserman, "Very Deep Convolutional Networks", section 3.2: the first fully-connected
layer becomes a convolution of the size of its maps, the others 1x1 convolutions; the result is a
map of class scores. Each function here takes a network and returns one that yields that map:
float32 [N, C, H, W] -> [N, classes, h, w], where a picture of the crop's size gives h = w = 1 and
the network's own logits. ``Slide`` averages the map over space; OverFeat's is its maximum already.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Protocol, cast

from torch import Tensor, nn


class Slide(nn.Module):
    """Averages a score map over space: float32 [N, C, H, W] -> logits float32 [N, classes].

    VGG, section 3.2: "the class score map is spatially averaged (sum-pooled)"; the softmax comes
    after it.
    """

    def __init__(self, scores: nn.Module) -> None:
        super().__init__()
        self.scores = scores

    def forward(self, pictures: Tensor) -> Tensor:
        logits: Tensor = self.scores(pictures).mean(dim=(2, 3))
        return logits


class _Classic(Protocol):
    features: nn.Sequential
    classifier: nn.Sequential


class _Residual(Protocol):
    fc: nn.Linear


def classic(network: nn.Module) -> nn.Module:
    """Convert a network with ``features`` and ``classifier``: AlexNet, ZFNet, VGG.

    torchvision's have an adaptive pooling between the two, which is the identity at 224 pixels:
    it is left out.
    """
    parts = cast(_Classic, network)
    features = (_whole_windows(layer) for layer in parts.features)
    return nn.Sequential(*features, *_convolutions(parts.features, parts.classifier))


def overfeat(network: nn.Module) -> nn.Module:
    """Convert OverFeat to each class's maximum over the map of `overfeat_map` (section 3.3).

    "Taking the spatial max for each class, at each scale and flip": [N, classes, 1, 1]. The paper
    does not say whether its vectors are scores or probabilities; here they are scores, so that the
    softmax after them adds up to 1.
    """
    return nn.Sequential(overfeat_map(network), SpatialMaximum())


def overfeat_map(network: nn.Module) -> nn.Module:
    """Convert OverFeat to its map of scores, pooled last at every offset (section 3.3, Figure 3).

    The paper pools its accurate model's last maps 3x3 at stride 3, at the offsets {0, 1, 2} in
    each direction, applies the classifier to each of the 3x3 results, and interleaves its outputs
    in one map. The fast model pools 2x2 at stride 2, so its offsets are {0, 1}. The same map comes
    from pooling at stride 1 and a classifier whose inputs lie one stride apart: a dilated
    convolution.
    """
    parts = cast(_Classic, network)
    *before, last = parts.features
    assert isinstance(last, nn.MaxPool2d)  # noqa: S101
    stride = cast(int, last.stride)
    pooled = nn.MaxPool2d(last.kernel_size, 1)
    layers = _convolutions(parts.features, parts.classifier, dilation=stride)
    return nn.Sequential(*before, pooled, *layers)


class SpatialMaximum(nn.Module):
    """float32 [N, classes, h, w] -> [N, classes, 1, 1], each class's maximum over space."""

    def forward(self, scores: Tensor) -> Tensor:
        return scores.amax(dim=(2, 3), keepdim=True)


def resnet(network: nn.Module, extent: int = 7) -> nn.Module:
    """Convert a network that ends in ``layer4``, ``avgpool`` and ``fc``, as torchvision's do.

    The global pooling becomes one of ``extent`` x ``extent`` at stride 1, which is what it covers
    at the crop's size; the classifier becomes a 1x1 convolution (He et al. 2015, section 4.1).
    """
    children = dict(network.named_children())
    before = [
        _whole_windows(layer) for name, layer in children.items() if name not in ("avgpool", "fc")
    ]
    scores = _convolution(cast(_Residual, network).fc, 1)
    return nn.Sequential(*before, nn.AvgPool2d(extent, 1), scores)


def _whole_windows(layer: nn.Module) -> nn.Module:
    """Replace a pooling that keeps an incomplete last window by one that pads, for any size.

    The tracer cannot decide for all sizes at once whether a window is incomplete. Zeros do as
    padding, since the maps come from a ReLU. Other layers stay as they are.
    """
    if not isinstance(layer, nn.MaxPool2d) or not layer.ceil_mode:
        return layer
    size, stride = cast(int, layer.kernel_size), cast(int, layer.stride)
    return nn.Sequential(nn.ZeroPad2d((0, stride - 1, 0, stride - 1)), nn.MaxPool2d(size, stride))


def _convolutions(
    features: nn.Sequential, classifier: Iterable[nn.Module], dilation: int = 1
) -> list[nn.Module]:
    """Return a classifier's layers as convolutions; only the first is larger than 1x1."""
    channels = [layer.out_channels for layer in features if isinstance(layer, nn.Conv2d)][-1]
    layers: list[nn.Module] = []
    extent = 0
    for layer in classifier:
        if isinstance(layer, nn.Linear):
            extent = 1 if extent else math.isqrt(layer.in_features // channels)
            layers.append(_convolution(layer, extent, dilation if extent > 1 else 1))
        else:
            layers.append(layer)
    return layers


def _convolution(layer: nn.Linear, extent: int, dilation: int = 1) -> nn.Conv2d:
    """Return a fully-connected layer as a convolution of ``extent`` x ``extent`` pixels."""
    channels = layer.in_features // extent**2
    convolution = nn.Conv2d(channels, layer.out_features, extent, dilation=dilation)
    shape = (layer.out_features, channels, extent, extent)
    # shared, not copied: the classifiers of VGG take half a gigabyte
    convolution.weight = nn.Parameter(layer.weight.detach().reshape(shape))
    if layer.bias is None:
        raise ValueError("a classifier without biases")
    convolution.bias = nn.Parameter(layer.bias.detach())
    return convolution.eval()
