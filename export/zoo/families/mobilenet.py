"""MobileNet v1 (timm), v2 and v3 (torchvision)."""

from __future__ import annotations

from export.zoo.libraries import HALF, timm, torchvision
from service.manifest import Paper

_V1 = Paper(
    title="MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications",
    url="https://arxiv.org/abs/1704.04861",
)
_V2 = Paper(
    title="MobileNetV2: Inverted Residuals and Linear Bottlenecks",
    url="https://arxiv.org/abs/1801.04381",
)
_V3 = Paper(title="Searching for MobileNetV3", url="https://arxiv.org/abs/1905.02244")
_CARD = "https://huggingface.co/timm/mobilenetv1_100.ra4_e3600_r224_in1k"


torchvision(
    name="mobilenet_v2",
    family="mobilenet",
    year=2018,
    paper=_V2,
    parameters=3_504_872,
    multiply_adds=300_774_272,
    weights="MobileNet_V2_Weights.IMAGENET1K_V1",
    file="mobilenet_v2-b0353104.pth",
    accuracy=(71.878, 90.286),
    peers=("timm:mobilenetv2_100",),
)

torchvision(
    name="mobilenet_v3_large",
    family="mobilenet",
    year=2019,
    paper=_V3,
    parameters=5_483_032,
    multiply_adds=216_589_760,
    weights="MobileNet_V3_Large_Weights.IMAGENET1K_V1",
    file="mobilenet_v3_large-8738ca79.pth",
    accuracy=(74.042, 91.34),
)

torchvision(
    name="mobilenet_v3_small",
    family="mobilenet",
    year=2019,
    paper=_V3,
    parameters=2_542_856,
    multiply_adds=56_510_400,
    weights="MobileNet_V3_Small_Weights.IMAGENET1K_V1",
    file="mobilenet_v3_small-047dcff4.pth",
    accuracy=(67.668, 87.402),
)

timm(
    name="mobilenet_v1",
    network="mobilenetv1_100",
    tag="ra4_e3600_r224_in1k",
    family="mobilenet",
    year=2017,
    paper=_V1,
    parameters=4_231_976,
    multiply_adds=568_740_352,
    crop_pct=0.875,
    interpolation="bicubic",
    mean=HALF,
    std=HALF,
    errors=(round(100 - 75.382, 3), round(100 - 92.312, 3)),
    errors_from=_CARD,
    # no peers: pytorchcv's mobilenet_w1 has ReLU where this network has ReLU6
)
