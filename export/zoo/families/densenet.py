"""DenseNet: every layer sees all layers before it, as in torchvision."""

from __future__ import annotations

from export.zoo.libraries import torchvision
from service.manifest import Paper

_PAPER = Paper(
    title="Densely Connected Convolutional Networks",
    url="https://arxiv.org/abs/1608.06993",
)
_NETWORKS = (
    # name, checkpoint, parameters, multiply-adds, accuracy top-1 and top-5 in percent
    ("densenet121", "densenet121-a639ec97.pth", 7_978_856, 2_834_161_664, (74.434, 91.972)),
    ("densenet161", "densenet161-8d451a50.pth", 28_681_000, 7_727_907_072, (77.138, 93.56)),
    ("densenet169", "densenet169-b2777c0a.pth", 14_149_480, 3_359_843_328, (75.6, 92.806)),
    ("densenet201", "densenet201-c1103571.pth", 20_013_928, 4_291_365_888, (76.896, 93.37)),
)

for _name, _file, _parameters, _multiply_adds, _accuracy in _NETWORKS:
    torchvision(
        name=_name,
        family="densenet",
        year=2016,
        paper=_PAPER,
        parameters=_parameters,
        multiply_adds=_multiply_adds,
        weights=f"{_name.replace('densenet', 'DenseNet')}_Weights.IMAGENET1K_V1",
        file=_file,
        accuracy=_accuracy,
        peers=(f"timm:{_name}", f"pytorchcv:{_name}"),
    )
