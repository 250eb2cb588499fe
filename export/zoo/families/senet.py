"""Channel attention: SENet-154, SE-ResNet, SE-ResNeXt (timm), CBAM-ResNet-50 (pytorchcv)."""

from __future__ import annotations

from export.zoo.libraries import pytorchcv, timm
from service.manifest import Paper

_PAPER = Paper(title="Squeeze-and-Excitation Networks", url="https://arxiv.org/abs/1709.01507")
# no peers: the first pooling of these rounds up, that of the other libraries pads
_RELEASES = "https://github.com/rwightman/pytorch-image-models/releases/download/"


timm(
    name="senet154",
    network="legacy_senet154",
    tag="in1k",
    family="senet",
    year=2017,
    paper=_PAPER,
    parameters=115_088_984,
    multiply_adds=20_688_363_520,
    crop_pct=0.875,
    interpolation="bilinear",
    errors=(18.68, 4.498),
    url=_RELEASES + "v0.1-weights/legacy_senet154-e9eb9fe6.pth",
)

timm(
    name="seresnet50",
    network="legacy_seresnet50",
    tag="in1k",
    family="senet",
    year=2017,
    paper=_PAPER,
    parameters=28_088_024,
    multiply_adds=3_860_488_192,
    crop_pct=0.875,
    interpolation="bilinear",
    errors=(22.35, 6.268),
    url=_RELEASES + "v0.1-cadene/se_resnet50-ce0d4300.pth",
)

for _layers, _parameters, _multiply_adds, _errors, _file in (
    (50, 27_559_896, 4_232_994_816, (20.92, 5.572), "legacy_se_resnext50_32x4d-f3651bad.pth"),
    (101, 48_955_416, 7_974_739_968, (19.726, 4.968), "legacy_se_resnext101_32x4d-37725eac.pth"),
):
    timm(
        name=f"seresnext{_layers}_32x4d",
        network=f"legacy_seresnext{_layers}_32x4d",
        tag="in1k",
        family="senet",
        year=2017,
        paper=_PAPER,
        parameters=_parameters,
        multiply_adds=_multiply_adds,
        crop_pct=0.875,
        interpolation="bilinear",
        errors=_errors,
        url=_RELEASES + "v0.1-weights/" + _file,
    )

pytorchcv(
    name="cbam_resnet50",
    network="cbam_resnet50",
    family="senet",
    year=2018,
    paper=Paper(
        title="CBAM: Convolutional Block Attention Module", url="https://arxiv.org/abs/1807.06521"
    ),
    parameters=28_089_624,
    multiply_adds=4_095_573_110,
    release="v0.0.537",
    file="cbam_resnet50-0505-d8cf8488.pth",
    sha1="d8cf8488efb97afecd6b3287a3ca9fa093fc3127",
    top5=5.05,
)
