"""ResNeXt: bottlenecks with grouped convolutions, as in torchvision."""

from __future__ import annotations

from export.zoo.families.resnet import SCALES
from export.zoo.libraries import torchvision
from export.zoo.registry import dense_form
from service.manifest import Paper

_PAPER = Paper(
    title="Aggregated Residual Transformations for Deep Neural Networks",
    url="https://arxiv.org/abs/1611.05431",
)
_NETWORKS = (
    # name, checkpoint, parameters, multiply-adds, resize, accuracy top-1 and top-5 in percent
    (
        "resnext50_32x4d",
        "resnext50_32x4d-7cdf4587.pth",
        25_028_904,
        4_230_479_872,
        256,
        (77.618, 93.698),
    ),
    (
        "resnext101_32x8d",
        "resnext101_32x8d-8ba56ff5.pth",
        88_791_336,
        16_414_015_488,
        256,
        (79.312, 94.526),
    ),
    (
        "resnext101_64x4d",
        "resnext101_64x4d-173b62eb.pth",
        83_455_272,
        15_460_270_080,
        232,
        (83.246, 96.454),
    ),
)

for _name, _file, _parameters, _multiply_adds, _resize, _accuracy in _NETWORKS:
    torchvision(
        name=_name,
        family="resnext",
        year=2016,
        paper=_PAPER,
        parameters=_parameters,
        multiply_adds=_multiply_adds,
        resize=_resize,
        weights=f"{_name.upper().replace('RESNEXT', 'ResNeXt')}_Weights.IMAGENET1K_V1",
        file=_file,
        accuracy=_accuracy,
        peers=(f"timm:{_name}",),
        dense=dense_form("resnet"),
        scales=SCALES,
    )
