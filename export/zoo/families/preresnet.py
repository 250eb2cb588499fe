"""ResNet V2: normalisation and activation before each convolution, as in pytorchcv."""

from __future__ import annotations

from export.zoo.libraries import pytorchcv
from service.manifest import Paper

_PAPER = Paper(
    title="Identity Mappings in Deep Residual Networks", url="https://arxiv.org/abs/1603.05027"
)
# The b form has its stride in the 3x3, as ResNet-200 has it in fb.resnet.torch, on which the paper
# builds (models/preresnet.lua there); pytorchcv's smaller ones have it in the first 1x1.
_NETWORKS = (
    # name, network, parameters, multiply-adds, release, top-5 error in percent, SHA-1
    (
        "preresnet50",
        "preresnet50",
        25_549_480,
        3_857_973_248,
        "v0.0.330",
        6.47,
        "222ca73b021f893b925c15e24ea2a6bc0fdf2546",
    ),
    (
        "preresnet101",
        "preresnet101",
        44_541_608,
        7_570_194_432,
        "v0.0.504",
        5.63,
        "8ec82f7d697b7329aea2c95b399093e9cb2b1114",
    ),
    (
        "preresnet152",
        "preresnet152",
        60_185_256,
        11_282_415_616,
        "v0.0.510",
        4.64,
        "baeb6c5208310ab7c919fc0da3c20267471a8fa1",
    ),
    (
        "preresnet200",
        "preresnet200b",
        64_666_280,
        15_007_481_856,
        "v0.0.529",
        4.68,
        "f82215f3a5616098e8172a85bb42071f1823a27d",
    ),
)

for _name, _network, _parameters, _multiply_adds, _release, _top5, _sha1 in _NETWORKS:
    pytorchcv(
        name=_name,
        network=_network,
        family="preresnet",
        year=2016,
        paper=_PAPER,
        parameters=_parameters,
        multiply_adds=_multiply_adds,
        release=_release,
        file=f"{_network}-{round(_top5 * 100):04}-{_sha1[:8]}.pth",
        sha1=_sha1,
        top5=_top5,
    )
