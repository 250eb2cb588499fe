"""EfficientNet B0 to B7 and L2 trained by Noisy Student (timm), and at FixRes's resolutions.

Noisy Student teaches with 300 million unlabelled pictures. FixEfficientNet trains such a network's
last layers once more and tests it on larger crops than it was trained on (Touvron et al. 2020):
the same network, other weights, another size.
"""

from __future__ import annotations

import math

from export.weights.sources import CheckpointOnly
from export.zoo.libraries import protocols, rgb, shortest_side, timm, timm_builder
from export.zoo.registry import register
from service.manifest import Paper, PublishedError

_NOISY = Paper(
    title="Self-training with Noisy Student improves ImageNet classification",
    url="https://arxiv.org/abs/1911.04252",
)
_FIX = Paper(
    title="Fixing the train-test resolution discrepancy: FixEfficientNet",
    url="https://arxiv.org/abs/2003.08237",
)
_README = "https://github.com/facebookresearch/FixRes/blob/main/README_FixEfficientNet.md"
_NETWORKS = (
    # name, tag, crop, crop_pct, parameters, multiply-adds, timm's errors
    ("b0_ns", "b0.ns_jft_in1k", 224, 0.875, 5_288_548, 385_814_752, (21.32, 5.628)),
    ("b1_ns", "b1.ns_jft_in1k", 240, 0.882, 7_794_184, 686_802_832, (18.612, 4.244)),
    ("b2_ns", "b2.ns_jft_in1k", 260, 0.89, 9_109_994, 993_561_872, (17.588, 3.762)),
    ("b3_ns", "b3.ns_jft_in1k", 300, 0.904, 12_233_232, 1_827_141_392, (15.946, 3.074)),
    ("b4_ns", "b4.ns_jft_in1k", 380, 0.922, 19_341_616, 4_393_771_024, (14.844, 2.518)),
    ("b5_ns", "b5.ns_jft_in1k", 456, 0.934, 30_389_784, 10_266_384_752, (13.904, 2.256)),
    ("b6_ns", "b6.ns_jft_in1k", 528, 0.942, 43_040_704, 19_067_593_536, (13.524, 2.136)),
    ("b7_ns", "b7.ns_jft_in1k", 600, 0.949, 66_347_960, 37_745_884_192, (13.15, 1.92)),
    ("l2_475", "l2.ns_jft_in1k_475", 475, 0.936, 480_309_308, 170_892_857_680, (11.754, 1.446)),
    ("l2", "l2.ns_jft_in1k", 800, 0.96, 480_309_308, 475_703_653_280, (11.64, 1.344)),
)
_FIXED = (
    # network, crop, multiply-adds, top-1 and top-5 accuracy with extra training data
    ("b0", 320, 785_392_000, (80.2, 95.4)),
    ("b1", 384, 1_669_447_680, (82.6, 96.4)),
    ("b2", 420, 2_479_414_752, (83.6, 96.9)),
    ("b3", 472, 4_365_059_792, (85.0, 97.4)),
    ("b4", 472, 6_827_314_384, (85.9, 97.7)),
    ("b5", 576, 15_541_304_384, (86.4, 97.9)),
    ("b6", 680, 31_998_829_824, (86.7, 98.0)),
    ("b7", 632, 41_835_908_448, (87.1, 98.2)),
    ("l2", 600, 273_091_566_608, (88.5, 98.7)),
)
_PARAMETERS = {name.removesuffix("_ns"): parameters for name, _, _, _, parameters, *_ in _NETWORKS}

for _name, _tag, _size, _crop_pct, _parameters, _multiply_adds, _errors in _NETWORKS:
    timm(
        name=f"efficientnet_{_name}",
        network=f"tf_efficientnet_{_tag.partition('.')[0]}",
        tag=_tag.partition(".")[2],
        family="noisy_student",
        year=2019,
        paper=_NOISY,
        parameters=_parameters,
        multiply_adds=_multiply_adds,
        size=_size,
        crop_pct=_crop_pct,
        interpolation="bicubic",
        errors=_errors,
    )


for _name, _size, _multiply_adds, _accuracy in _FIXED:
    # by imnet_evaluate/transforms.py of FixRes, which its authors have for their other networks
    _resize = math.floor(256 / 224 * _size)
    register(
        name=f"fixefficientnet_{_name}",
        network=f"tf_efficientnet_{_name}",
        family="fixefficientnet",
        year=2020,
        paper=_FIX,
        source="timm",
        parameters=_PARAMETERS[_name],
        multiply_adds=_multiply_adds,
        input=rgb(_size),
        resize=shortest_side(_resize, "bilinear"),
        protocols=protocols(_resize),
        weights=CheckpointOnly(
            known="the authors' FixEfficientNet with extra training data, which has timm's names",
            same_order=False,
        ),
        published=(
            PublishedError(
                top1=round(100 - _accuracy[0], 1),
                top5=round(100 - _accuracy[1], 1),
                protocol=f"center at {_size}; the source names no resize",
                source=f"{_README}, with extra training data",
            ),
        ),
    )(timm_builder(f"tf_efficientnet_{_name}"))
