"""VGG, configurations A, B, D and E, plain and with batch normalisation, as in torchvision."""

from __future__ import annotations

from export.zoo.libraries import torchvision
from export.zoo.registry import dense_form
from service.manifest import Paper, PublishedError

PAPER = Paper(
    title="Very Deep Convolutional Networks for Large-Scale Image Recognition",
    url="https://arxiv.org/abs/1409.1556",
)
_NETWORKS = (
    # name, checkpoint, parameters, multiply-adds, accuracy top-1 and top-5 in percent
    ("vgg11", "vgg11-8a719046.pth", 132_863_336, 7_609_090_048, (69.02, 88.628)),
    ("vgg13", "vgg13-19584684.pth", 133_047_848, 11_308_466_176, (69.928, 89.246)),
    ("vgg16", "vgg16-397923af.pth", 138_357_544, 15_470_264_320, (71.592, 90.382)),
    ("vgg19", "vgg19-dcbb9e9d.pth", 143_667_240, 19_632_062_464, (72.376, 90.876)),
    ("vgg11_bn", "vgg11_bn-6002323d.pth", 132_868_840, 7_609_090_048, (70.37, 89.81)),
    ("vgg13_bn", "vgg13_bn-abd245e5.pth", 133_053_736, 11_308_466_176, (71.586, 90.374)),
    ("vgg16_bn", "vgg16_bn-6c64b313.pth", 138_365_992, 15_470_264_320, (73.36, 91.516)),
    ("vgg19_bn", "vgg19_bn-c79401a0.pth", 143_678_248, 19_632_062_464, (74.218, 91.842)),
)
_PYTORCHCV = {
    **{f"vgg{depth}": f"vgg{depth}" for depth in (11, 13, 16, 19)},
    **{f"vgg{depth}_bn": f"bn_vgg{depth}b" for depth in (11, 13, 16, 19)},
}
Errors = tuple[PublishedError, ...]


def _published(configuration: str, errors: dict[str, tuple[float, float]]) -> Errors:
    return tuple(
        PublishedError(
            top1=top1,
            top5=top5,
            protocol=f"{protocol}; the authors' weights",
            source=f"Simonyan and Zisserman 2014, table 5, configuration {configuration}",
        )
        for protocol, (top1, top5) in errors.items()
    )


_DENSE = "dense at 256, 384 and 512"
_BOTH = "crops_150 and dense, averaged"
_PUBLISHED = {
    "vgg16": _published("D", {_DENSE: (24.8, 7.5), "crops_150": (24.6, 7.5), _BOTH: (24.4, 7.2)}),
    "vgg19": _published("E", {_DENSE: (24.8, 7.5), "crops_150": (24.6, 7.4), _BOTH: (24.4, 7.1)}),
}


for _name, _file, _parameters, _multiply_adds, _accuracy in _NETWORKS:
    torchvision(
        name=_name,
        family="vgg",
        year=2014,
        paper=PAPER,
        parameters=_parameters,
        multiply_adds=_multiply_adds,
        weights=f"{_name.upper()}_Weights.IMAGENET1K_V1",
        file=_file,
        accuracy=_accuracy,
        published=_PUBLISHED.get(_name, ()),
        peers=(f"timm:{_name}", f"pytorchcv:{_PYTORCHCV[_name]}"),
        dense=dense_form("classic"),
        scales=(256, 384, 512),
        crops_150=(256, 384, 512),
    )
