"""ResNet in torchvision's form: the stride of a bottleneck lies in its 3x3 convolution (v1.5)."""

from __future__ import annotations

from export.zoo.libraries import torchvision
from export.zoo.registry import dense_form
from service.manifest import Paper

PAPER = Paper(
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
SCALES = (224, 256, 384, 480, 640)
"""Shorter sides of the dense evaluation (He et al. 2015, section 3.4)."""


for _name, _file, _parameters, _multiply_adds, _accuracy in _NETWORKS:
    torchvision(
        name=_name,
        family="resnet",
        year=2015,
        paper=PAPER,
        parameters=_parameters,
        multiply_adds=_multiply_adds,
        weights=f"{_name.replace('resnet', 'ResNet')}_Weights.IMAGENET1K_V1",
        file=_file,
        accuracy=_accuracy,
        peers=(f"timm:{_name}", f"pytorchcv:{_PYTORCHCV[_name]}"),
        dense=dense_form("resnet"),
        scales=SCALES,
    )
