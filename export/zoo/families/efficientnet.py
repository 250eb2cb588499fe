"""EfficientNet B0 to B7, as in torchvision."""

from __future__ import annotations

from export.zoo.libraries import torchvision
from service.manifest import Paper

_PAPER = Paper(
    title="EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks",
    url="https://arxiv.org/abs/1905.11946",
)
_NETWORKS = (
    # crop, resize, checkpoint, parameters, multiply-adds, accuracy top-1 and top-5 in percent
    (224, 256, "efficientnet_b0_rwightman-7f5810bc.pth", 5_288_548, 385_814_752, (77.692, 93.532)),
    (240, 256, "efficientnet_b1_rwightman-bac287d4.pth", 7_794_184, 686_802_832, (78.642, 94.186)),
    (288, 288, "efficientnet_b2_rwightman-c35c1473.pth", 9_109_994, 1_087_529_456, (80.608, 95.31)),
    (
        300,
        320,
        "efficientnet_b3_rwightman-b3899882.pth",
        12_233_232,
        1_827_141_392,
        (82.008, 96.054),
    ),
    (
        380,
        384,
        "efficientnet_b4_rwightman-23ab8bcd.pth",
        19_341_616,
        4_393_771_024,
        (83.384, 96.594),
    ),
    (
        456,
        456,
        "efficientnet_b5_lukemelas-1a07897c.pth",
        30_389_784,
        10_266_384_752,
        (83.444, 96.628),
    ),
    (
        528,
        528,
        "efficientnet_b6_lukemelas-24a108a5.pth",
        43_040_704,
        19_067_593_536,
        (84.008, 96.916),
    ),
    (
        600,
        600,
        "efficientnet_b7_lukemelas-c5b4e57e.pth",
        66_347_960,
        37_745_884_192,
        (84.122, 96.908),
    ),
)
_SAME_ELSEWHERE = 5
"""From B5 on, torchvision's batch normalisation has another epsilon than timm's."""

for _index, (_size, _resize, _file, _parameters, _multiply_adds, _accuracy) in enumerate(_NETWORKS):
    torchvision(
        name=f"efficientnet_b{_index}",
        family="efficientnet",
        year=2019,
        paper=_PAPER,
        parameters=_parameters,
        multiply_adds=_multiply_adds,
        size=_size,
        resize=_resize,
        interpolation="bicubic",
        weights=f"EfficientNet_B{_index}_Weights.IMAGENET1K_V1",
        file=_file,
        accuracy=_accuracy,
        peers=(
            (f"timm:efficientnet_b{_index}", f"pytorchcv:efficientnet_b{_index}")
            if _index < _SAME_ELSEWHERE
            else ()
        ),
    )
