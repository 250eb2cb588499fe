"""ResNet in torchvision's form: the stride of a bottleneck lies in its 3x3 convolution (v1.5)."""

from __future__ import annotations

from export.zoo.libraries import torchvision
from export.zoo.registry import dense_form
from service.manifest import Paper, PublishedError

_PAPER = Paper(
    title="Deep Residual Learning for Image Recognition",
    url="https://arxiv.org/abs/1512.03385",
)
_NETWORKS = (
    # name, checkpoint, parameters, multiply-adds, accuracy top-1 and top-5 in percent
    ("resnet18", "resnet18-f37072fd.pth", 11_689_512, 1_814_073_344, (69.758, 89.078)),
    ("resnet34", "resnet34-b627a593.pth", 21_797_672, 3_663_761_408, (73.314, 91.42)),
    ("resnet50", "resnet50-0676ba61.pth", 25_557_032, 4_089_184_256, (76.13, 92.862)),
    ("resnet101", "resnet101-63fe2227.pth", 44_549_160, 7_801_405_440, (77.374, 93.546)),
    ("resnet152", "resnet152-394f9c45.pth", 60_192_808, 11_513_626_624, (78.312, 94.046)),
)
_PYTORCHCV = {
    "resnet18": "resnet18",
    "resnet34": "resnet34",
    "resnet50": "resnet50b",
    "resnet101": "resnet101b",
    "resnet152": "resnet152b",
}
"""pytorchcv's names; b means the stride in the 3x3 convolution."""
_TEN_CROP = {"resnet50": (22.9, 6.7), "resnet101": (21.8, 6.1), "resnet152": (21.4, 5.7)}
"""Errors of He et al. 2015, table 3: of the authors' form (v1), not of these weights."""


def _paper(name: str) -> tuple[PublishedError, ...]:
    if name not in _TEN_CROP:
        return ()
    top1, top5 = _TEN_CROP[name]
    return (
        PublishedError(
            top1=top1,
            top5=top5,
            protocol="ten_crop; the authors' weights, stride in the first 1x1",
            source="He et al. 2015, table 3",
        ),
    )


for _name, _file, _parameters, _multiply_adds, _accuracy in _NETWORKS:
    torchvision(
        name=_name,
        family="resnet",
        year=2015,
        paper=_PAPER,
        parameters=_parameters,
        multiply_adds=_multiply_adds,
        weights=f"{_name.replace('resnet', 'ResNet')}_Weights.IMAGENET1K_V1",
        file=_file,
        accuracy=_accuracy,
        published=_paper(_name),
        peers=(f"timm:{_name}", f"pytorchcv:{_PYTORCHCV[_name]}"),
        dense=dense_form("resnet"),
        scales=(224, 256, 384, 480, 640),
    )
