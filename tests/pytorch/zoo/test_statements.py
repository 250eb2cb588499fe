"""Our own networks against a second statement of each: its layers and pixels, in other words.

The registry feeds both sides of the proof, so what is wrong in it passes. Here each network is
written down once more, from the authors' prototxt or the paper, as a list of operations that
`torch.nn.functional` computes with the network's own numbers, in order; and its preprocessing as
arithmetic on pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision.transforms.v2.functional as V
from PIL import Image
from torch import Tensor, nn

from export.graph.graph import Normalise
from export.zoo import registry
from service.imaging.protocols import PROTOCOLS
from tests.photographs import FLOWER
from tests.pytorch.networks import initialise, uninitialised

Step = tuple[Any, ...]
PAPER_LRN: Step = ("lrn", 5, 5 * 1e-4, 0.75, 2.0)
"""Krizhevsky et al. 2012, section 3.3: the sum itself is multiplied by 1e-4, where Caffe and
PyTorch divide it by five."""
CAFFE_LRN: Step = ("lrn", 5, 1e-4, 0.75, 1.0)
"""local_size: 5 alpha: 0.0001 beta: 0.75, and k: 1, Caffe's default."""


def conv(maps: int, side: int, stride: int = 1, pad: int = 0, group: int = 1) -> list[Step]:
    return [("conv", maps, side, stride, pad, group), ("relu",)]


def three(*widths: int) -> list[Step]:
    first, second, last = widths
    return [("flatten",), ("fc", first), ("relu",), ("fc", second), ("relu",), ("fc", last)]


def alexnet(lrn: Step, *sixth: Step) -> list[Step]:
    """bvlc_alexnet/deploy.prototxt; the paper's Figure 2 has the same layers."""
    return [
        *conv(96, 11, stride=4),
        lrn,
        ("pool", 3, 2),
        *conv(256, 5, pad=2, group=2),
        lrn,
        ("pool", 3, 2),
        *conv(384, 3, pad=1),
        *conv(384, 3, pad=1, group=2),
        *conv(256, 3, pad=1, group=2),
        ("pool", 3, 2),
        *sixth,
        *three(4096, 4096, 1000),
    ]


def zfnet(third: int, fourth: int, fifth: int) -> list[Step]:
    """Zeiler and Fergus, Figure 3: pooling, then contrast normalised."""
    return [
        *conv(96, 7, stride=2, pad=1),
        ("pool", 3, 2),
        PAPER_LRN,
        *conv(256, 5, stride=2),
        ("pool", 3, 2),
        PAPER_LRN,
        *conv(third, 3, pad=1),
        *conv(fourth, 3, pad=1),
        *conv(fifth, 3, pad=1),
        ("pool", 3, 2),
        *three(4096, 4096, 1000),
    ]


def vgg(*blocks: list[Step]) -> list[Step]:
    """Simonyan and Zisserman, Table 1: a pooling of 2x2 at stride 2 after each block."""
    pooled = [step for block in blocks for step in (*block, ("pool", 2, 2))]
    return [*pooled, *three(4096, 4096, 1000)]


def threes(maps: int, count: int) -> list[Step]:
    return conv(maps, 3, pad=1) * count


LAYERS: dict[str, list[Step]] = {
    "alexnet_2012": alexnet(PAPER_LRN),
    "alexnet_2012_pretrained": alexnet(PAPER_LRN, *conv(256, 3, pad=1, group=2)),
    "alexnet_bvlc": alexnet(CAFFE_LRN),
    "zfnet": zfnet(384, 384, 256),
    "zfnet_512": zfnet(512, 1024, 512),
    # Sermanet et al., Table 1; pad and stride as in the authors' released networks
    "overfeat_fast": [
        *conv(96, 11, stride=4),
        ("pool", 2, 2),
        *conv(256, 5),
        ("pool", 2, 2),
        *conv(512, 3, pad=1),
        *conv(1024, 3, pad=1),
        *conv(1024, 3, pad=1),
        ("pool", 2, 2),
        *three(3072, 4096, 1000),
    ],
    # Table 3
    "overfeat_accurate": [
        *conv(96, 7, stride=2),
        ("pool", 3, 3),
        *conv(256, 7),
        ("pool", 2, 2),
        *conv(512, 3, pad=1),
        *conv(512, 3, pad=1),
        *conv(1024, 3, pad=1),
        *conv(1024, 3, pad=1),
        ("pool", 3, 3),
        *three(4096, 4096, 1000),
    ],
    # nin_imagenet's train_val.prototxt: conv, cccp, cccp, pool
    "nin": [
        *conv(96, 11, stride=4),
        *conv(96, 1) * 2,
        ("pool", 3, 2),
        *conv(256, 5, pad=2),
        *conv(256, 1) * 2,
        ("pool", 3, 2),
        *conv(384, 3, pad=1),
        *conv(384, 1) * 2,
        ("pool", 3, 2),
        *conv(1024, 3, pad=1),
        *conv(1024, 1),
        *conv(1000, 1),
        ("mean",),
    ],
    "vgg11_lrn": vgg(
        [*threes(64, 1), PAPER_LRN],
        threes(128, 1),
        threes(256, 2),
        threes(512, 2),
        threes(512, 2),
    ),
    "vgg16_c": vgg(
        threes(64, 2),
        threes(128, 2),
        [*threes(256, 2), *conv(256, 1)],
        [*threes(512, 2), *conv(512, 1)],
        [*threes(512, 2), *conv(512, 1)],
    ),
    # bvlc_googlenet/deploy.prototxt: 1x1, 3x3_reduce, 3x3, 5x5_reduce, 5x5, pool_proj
    "googlenet_2014": [
        *conv(64, 7, stride=2, pad=3),
        ("pool", 3, 2),
        CAFFE_LRN,
        *conv(64, 1),
        *conv(192, 3, pad=1),
        CAFFE_LRN,
        ("pool", 3, 2),
        ("inception", 64, 96, 128, 16, 32, 32),
        ("inception", 128, 128, 192, 32, 96, 64),
        ("pool", 3, 2),
        ("inception", 192, 96, 208, 16, 48, 64),
        ("inception", 160, 112, 224, 24, 64, 64),
        ("inception", 128, 128, 256, 24, 64, 64),
        ("inception", 112, 144, 288, 32, 64, 64),
        ("inception", 256, 160, 320, 32, 128, 128),
        ("pool", 3, 2),
        ("inception", 256, 160, 320, 32, 128, 128),
        ("inception", 384, 192, 384, 48, 128, 128),
        ("mean",),
        ("fc", 1000),
    ],
    # ResNet-50-deploy.prototxt: the stride of stages 3 to 5 is that of branch1 and of branch2a
    "resnet50_msra": [
        ("norm conv", 64, 7, 2, 3),
        ("relu",),
        ("pool", 3, 2),
        *[("bottleneck", 64, 256, 1, 3)],
        *[("bottleneck", 128, 512, 2, 4)],
        *[("bottleneck", 256, 1024, 2, 6)],
        *[("bottleneck", 512, 2048, 2, 3)],
        ("mean",),
        ("fc", 1000),
    ],
    # d2l.ai, section 8.1.2
    "alexnet_d2l": [
        *conv(96, 11, stride=4, pad=1),
        ("whole pool", 3, 2),
        *conv(256, 5, pad=2),
        ("whole pool", 3, 2),
        *conv(384, 3, pad=1),
        *conv(384, 3, pad=1),
        *conv(256, 3, pad=1),
        ("whole pool", 3, 2),
        *three(4096, 4096, 10),
    ],
}


class Numbers:
    """The tensors of a network in the order of its layers."""

    def __init__(self, network: nn.Module) -> None:
        state = network.state_dict()
        self.left: Iterator[Tensor] = iter(
            [tensor for name, tensor in state.items() if "num_batches" not in name]
        )

    def take(self, count: int) -> list[Tensor]:
        return [next(self.left) for _ in range(count)]


def convolve(x: Tensor, numbers: Numbers, shape: tuple[int, ...], **how: int) -> Tensor:
    weight, bias = numbers.take(2)
    assert (weight.shape[0], weight.shape[2]) == shape[:2]
    return F.conv2d(x, weight, bias, **how)


def norm_convolve(x: Tensor, numbers: Numbers, maps: int, side: int, stride: int) -> Tensor:
    weight, gain, shift, mean, variance = numbers.take(5)
    assert weight.shape[0] == maps
    assert weight.shape[2] == side
    y = F.conv2d(x, weight, None, stride, side // 2)
    columns = (value[:, None, None] for value in (gain, shift, mean, variance))
    gain, shift, mean, variance = columns
    return (y - mean) / torch.sqrt(variance + 1e-5) * gain + shift


def bottleneck(x: Tensor, numbers: Numbers, width: int, maps: int, stride: int) -> Tensor:
    y = norm_convolve(x, numbers, width, 1, stride).relu()
    y = norm_convolve(y, numbers, width, 3, 1).relu()
    y = norm_convolve(y, numbers, maps, 1, 1)
    shortcut = x if x.shape[1] == maps else norm_convolve(x, numbers, maps, 1, stride)
    return (y + shortcut).relu()


def caffe_pool(x: Tensor, side: int, stride: int, pad: int = 0) -> Tensor:
    """Windows from the first pixel on; the last may be incomplete."""
    return F.max_pool2d(x, side, stride, pad, ceil_mode=True)


def compute(steps: list[Step], network: nn.Module, x: Tensor) -> Tensor:
    numbers = Numbers(network)
    for kind, *given in steps:
        if kind == "conv":
            maps, side, stride, pad, group = given
            x = convolve(x, numbers, (maps, side), stride=stride, padding=pad, groups=group)
        elif kind == "norm conv":
            x = norm_convolve(x, numbers, given[0], given[1], given[2])
        elif kind == "bottleneck":
            width, maps, stride, count = given
            for number in range(count):
                x = bottleneck(x, numbers, width, maps, 1 if number else stride)
        elif kind == "inception":
            one, three_reduce, third, five_reduce, fifth, projected = given
            branches = [convolve(x, numbers, (one, 1)).relu()]
            y = convolve(x, numbers, (three_reduce, 1)).relu()
            branches.append(convolve(y, numbers, (third, 3), padding=1).relu())
            y = convolve(x, numbers, (five_reduce, 1)).relu()
            branches.append(convolve(y, numbers, (fifth, 5), padding=2).relu())
            pooled = caffe_pool(x, 3, 1, pad=1)
            branches.append(convolve(pooled, numbers, (projected, 1)).relu())
            x = torch.cat(branches, dim=1)
        elif kind == "relu":
            x = x.clamp_min(0)
        elif kind == "lrn":
            x = F.local_response_norm(x, *given)
        elif kind == "pool":
            x = caffe_pool(x, *given)
        elif kind == "whole pool":
            x = F.max_pool2d(x, *given)
        elif kind == "mean":
            x = x.mean(dim=(2, 3))
        elif kind == "flatten":
            x = x.flatten(1)
        else:
            assert kind == "fc"
            weight, bias = numbers.take(2)
            assert weight.shape[0] == given[0]
            x = x @ weight.T + bias
    assert not list(numbers.left)
    return x


def test_every_network_of_our_own_has_a_second_statement() -> None:
    own = {spec.name for spec in registry.specs() if spec.source == "own"}
    # LeNet-5 has tests of its own, layer by layer; the two larger ones and the wide one are the
    # same code as resnet50_msra and torchvision's
    assert own - {"lenet5", "resnet101_msra", "resnet152_msra", "wrn_68_2"} == set(LAYERS)
    assert set(PIXELS) == own - {"lenet5", "alexnet_d2l"}


@pytest.mark.parametrize("name", LAYERS)
def test_the_layers_are_those_of_the_statement(name: str) -> None:
    spec = registry.get(name)
    with uninitialised():
        network = spec.build()
    if "norm conv" in (step[0] for step in LAYERS[name]):
        with_statistics(network)
    else:
        initialise(network, level=1)
    size = spec.input
    generator = torch.Generator().manual_seed(2)
    crops = torch.randn(1, size.channels, size.height, size.width, generator=generator)
    if PAPER_LRN in LAYERS[name] or CAFFE_LRN in LAYERS[name]:
        crops *= 60  # else the constants of the normalisation hardly count
    with torch.inference_mode():
        expected = compute(LAYERS[name], network.eval(), crops)
        found = network(crops)
    assert found.shape == (1, spec.classes)
    assert (found - expected).abs().max() <= 1e-4 * expected.std()


def with_statistics(network: nn.Module) -> None:
    """Seeded weights, and batch normalisations with statistics of their own."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                layer.weight.normal_(0, (2 / layer.weight[0].numel()) ** 0.5, generator=generator)
            if isinstance(layer, nn.BatchNorm2d):
                layer.weight.uniform_(0.3, 0.6, generator=generator)
                assert layer.running_mean is not None
                assert layer.running_var is not None
                layer.running_mean.normal_(0, 0.2, generator=generator)
                layer.running_var.uniform_(0.5, 1.5, generator=generator)
            if isinstance(layer, nn.BatchNorm2d | nn.Linear):
                layer.bias.normal_(0, 0.2, generator=generator)


# --- pixels --------------------------------------------------------------------------------------


class Pixels(NamedTuple):
    """How a picture becomes a crop: in words of Pillow and arithmetic."""

    order: str
    mean: tuple[float, ...]
    crop: int
    squeezed: bool = False
    """Whether the whole picture becomes 256x256; else its shorter side becomes 256."""
    scale: float = 1.0
    divisor: tuple[float, ...] = (1.0,)
    takes_mean_image: bool = False


CAFFE = (104.00699, 116.66877, 122.67892)
"""Of imagenet_mean.binaryproto: blue, green, red."""
PIXELS: dict[str, Pixels] = {
    # "raw RGB values", minus the mean
    "alexnet_2012": Pixels("rgb", CAFFE[::-1], 227, takes_mean_image=True),
    "alexnet_2012_pretrained": Pixels("rgb", CAFFE[::-1], 227, takes_mean_image=True),
    # train_val.prototxt: crop_size 227, imagenet_mean.binaryproto; create_imagenet.sh: 256x256
    "alexnet_bvlc": Pixels("bgr", CAFFE, 227, squeezed=True, takes_mean_image=True),
    "zfnet": Pixels("rgb", CAFFE[::-1], 224, takes_mean_image=True),
    "zfnet_512": Pixels("rgb", CAFFE[::-1], 224, takes_mean_image=True),
    "nin": Pixels("bgr", CAFFE, 224, squeezed=True, takes_mean_image=True),
    # overfeat-torch: add(-118.380948):div(61.896913)
    "overfeat_fast": Pixels("rgb", (118.380948,), 231, divisor=(61.896913,)),
    "overfeat_accurate": Pixels("rgb", (118.380948,), 221, divisor=(61.896913,)),
    "vgg11_lrn": Pixels("rgb", (123.68, 116.779, 103.939), 224),
    "vgg16_c": Pixels("rgb", (123.68, 116.779, 103.939), 224),
    # mean_value: 104, 117, 123
    "googlenet_2014": Pixels("bgr", (104, 117, 123), 224, squeezed=True),
    **{
        f"resnet{layers}_msra": Pixels("bgr", CAFFE, 224, takes_mean_image=True)
        for layers in (50, 101, 152)
    },
    "wrn_68_2": Pixels(
        "rgb", (0.485, 0.456, 0.406), 224, scale=1 / 255, divisor=(0.229, 0.224, 0.225)
    ),
}


@pytest.mark.parametrize("name", PIXELS)
def test_the_pixels_are_those_of_the_statement(name: str) -> None:
    said, spec = PIXELS[name], registry.get(name)
    picture = Image.open(FLOWER).convert("RGB").resize((331, 287))
    side: Any = [256, 256] if said.squeezed else 256
    resized = V.resize(picture, side, V.InterpolationMode.BILINEAR, antialias=True)
    pixels = np.asarray(V.center_crop(resized, [said.crop, said.crop])).astype(np.float64)
    if said.order == "bgr":
        pixels = pixels[..., ::-1]
    expected = (pixels * said.scale - said.mean) / said.divisor
    (crops,) = PROTOCOLS["center"].crops(picture, spec)  # type: ignore[arg-type]
    found = Normalise(spec.input)(torch.from_numpy(crops))[0].numpy()
    np.testing.assert_allclose(found, expected.transpose(2, 0, 1), atol=2e-4)
    assert spec.mean_image == said.takes_mean_image
