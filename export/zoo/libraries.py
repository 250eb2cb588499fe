"""ImageNet networks of torchvision, timm and pytorchcv: what the entries of a library share.

Each function registers one network with the preprocessing, the weights and the errors that its
library states. tests/pytorch/zoo/test_zoo.py holds every entry against the installed library.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

from export.spec import Builder, Conversion
from export.weights.downloads import (
    HubDownload,
    HuggingFaceDownload,
    LibraryDownload,
    PytorchcvDownload,
)
from export.zoo.registry import register
from service.manifest import (
    Input,
    Paper,
    ProtocolName,
    Protocols,
    ProtocolSpec,
    PublishedError,
    Resize,
)

if TYPE_CHECKING:
    from torch import nn

Mean = tuple[float, float, float]
Interpolation = Literal["bilinear", "bicubic"]

MEAN: Mean = (0.485, 0.456, 0.406)
STD: Mean = (0.229, 0.224, 0.225)
"""Of ImageNet's training pictures, RGB, as torchvision states them."""
HALF: Mean = (0.5, 0.5, 0.5)
"""Mean and deviation of networks from TensorFlow: pixels from -1 to 1."""

_SHORT_SIDES = (256, 288, 320, 352)
"""GoogLeNet's scales for 144 crops at 224 (Szegedy et al. 2014, section 7)."""

TIMM_RESULTS = (
    "https://github.com/huggingface/pytorch-image-models/blob/"
    "4e5207c7bb6592474ca56e28b2cf85be8f1a550f/results/results-imagenet.csv"
)
"""timm's own evaluation of its weights, as of October 2025: later ones differ by some 0.01."""
_PYTORCHCV_SCALE = 0.875
_PYTORCHCV = "https://github.com/osmr/imgclsmob"
_TERMS = """\
Pre-trained models may have licences or terms of their own, derived from the data they were
trained on: here ImageNet-1k, whose terms allow non-commercial research and education.
"""


def rgb(size: int, mean: Mean = MEAN, std: Mean = STD) -> Input:
    """Square RGB crops, pixels scaled to 0 to 1, then normalised."""
    return Input(
        height=size, width=size, channels=3, color="RGB", rescale=1 / 255, mean=mean, std=std
    )


def bytes_minus(
    size: int, mean: Mean, color: Literal["RGB", "BGR"], std: Mean = (1.0, 1.0, 1.0)
) -> Input:
    """Square crops, pixels from 0 to 255 minus ``mean``, in the order ``color``."""
    return Input(height=size, width=size, channels=3, color=color, rescale=1.0, mean=mean, std=std)


def shortest_side(size: int, interpolation: Interpolation) -> Resize:
    """The usual resize: the shorter side to ``size``."""
    return Resize(rule="shortest_side", size=size, interpolation=interpolation)


def protocols(
    resize: int,
    dense: tuple[int, ...] = (),
    *,
    crops_150: tuple[int, ...] = (),
    default: ProtocolName = "center",
) -> Protocols:
    """Centre, ten and 144 crops, the last at GoogLeNet's scales times the model's own ratio.

    With ``dense`` and ``crops_150``, which are their scales, those two as well. ``default`` is the
    one that the authors report, so that an answer is what their figure is about.
    """
    scales = tuple(round(resize * side / _SHORT_SIDES[0]) for side in _SHORT_SIDES)
    return Protocols(
        default=default,
        supported=(
            ProtocolSpec(name="center"),
            ProtocolSpec(name="ten_crop"),
            ProtocolSpec(name="crops_144", scales=scales),
            *([ProtocolSpec(name="crops_150", scales=crops_150)] if crops_150 else []),
            *([ProtocolSpec(name="dense", scales=dense)] if dense else []),
        ),
    )


def torchvision(
    *,
    name: str,
    family: str,
    year: int,
    paper: Paper,
    parameters: int,
    multiply_adds: int,
    weights: str,
    file: str,
    accuracy: tuple[float, float],
    network: str | None = None,
    size: int = 224,
    resize: int = 256,
    interpolation: Interpolation = "bilinear",
    published: tuple[PublishedError, ...] = (),
    options: dict[str, Any] | None = None,
    training_only: tuple[str, ...] = (),
    peers: tuple[str, ...] = (),
    dense: Conversion | None = None,
    scales: tuple[int, ...] = (),
    crops_150: tuple[int, ...] = (),
) -> None:
    """Register a network of torchvision.

    ``weights`` is the name in torchvision's enumeration, ``file`` that of the checkpoint,
    ``accuracy`` the top-1 and top-5 accuracy, in percent, of the metadata; ``scales`` are those
    of the protocol ``dense``, where there is a conversion for it, ``crops_150`` those of that one.
    """
    architecture = network or name

    def build(classes: int) -> nn.Module:
        from torchvision.models import get_model

        module: nn.Module = get_model(
            architecture, weights=None, num_classes=classes, **(options or {})
        )
        return module

    own = PublishedError(
        top1=round(100 - accuracy[0], 3),
        top5=round(100 - accuracy[1], 3),
        protocol=f"center, {interpolation} {resize} to {size}",
        source=f"torchvision {weights}: acc@1 {accuracy[0]:g}, acc@5 {accuracy[1]:g}",
    )
    register(
        name=name,
        network=architecture,
        family=family,
        year=year,
        paper=paper,
        source="torchvision",
        parameters=parameters,
        multiply_adds=multiply_adds,
        input=rgb(size),
        resize=shortest_side(resize, interpolation),
        protocols=protocols(resize, scales, crops_150=crops_150),
        weights=HubDownload(
            tag=f"torchvision {weights}",
            url=f"https://download.pytorch.org/models/{file}",
            spdx="BSD-3-Clause",
            notice=(
                "The weights are those of torchvision (https://github.com/pytorch/vision), which "
                f"is under the\nBSD 3-Clause License. {_TERMS}"
            ),
        ),
        published=(own, *published),
        training_only=training_only,
        peers=peers,
        dense=dense,
    )(build)


def timm(
    *,
    name: str,
    network: str,
    tag: str,
    family: str,
    year: int,
    paper: Paper,
    parameters: int,
    multiply_adds: int,
    crop_pct: float,
    interpolation: Interpolation,
    errors: tuple[float, float],
    errors_from: str = TIMM_RESULTS,
    url: str | None = None,
    spdx: str = "Apache-2.0",
    size: int = 224,
    mean: Mean = MEAN,
    std: Mean = STD,
    published: tuple[PublishedError, ...] = (),
    peers: tuple[str, ...] = (),
) -> None:
    """Register a network of timm: ``network.tag`` on the hub, or the file at ``url``.

    ``errors`` are the top-1 and top-5 error, in percent, of timm's own evaluation.
    """
    resize = math.floor(size / crop_pct)
    full = f"{network}.{tag}"
    notice = (
        "The weights are those that timm (Apache-2.0, "
        f"https://github.com/huggingface/pytorch-image-models)\noffers as {full}; their licence "
        f"is stated there as {spdx}. {_TERMS}"
    )
    hub = f"https://huggingface.co/timm/{full}/resolve/main/model.safetensors"
    source: LibraryDownload = (
        HuggingFaceDownload(
            tag=f"timm {full}", url=hub, spdx=spdx, notice=notice, repository=f"timm/{full}"
        )
        if url is None
        else HubDownload(tag=f"timm {full}", url=url, spdx=spdx, notice=notice, hashed=False)
    )

    own = PublishedError(
        top1=errors[0],
        top5=errors[1],
        protocol=f"center, {interpolation} {resize} to {size}",
        source=f"{errors_from} ({full})",
    )
    register(
        name=name,
        network=network,
        family=family,
        year=year,
        paper=paper,
        source="timm",
        parameters=parameters,
        multiply_adds=multiply_adds,
        input=rgb(size, mean, std),
        resize=shortest_side(resize, interpolation),
        protocols=protocols(resize),
        weights=source,
        published=(own, *published),
        peers=peers,
    )(timm_builder(full))


def timm_builder(name: str) -> Builder:
    """What builds a network of timm, ``name`` or ``name.tag``, untrained."""

    def build(classes: int) -> nn.Module:
        from timm import create_model

        module: nn.Module = create_model(name, pretrained=False, num_classes=classes)
        return module

    return build


def pytorchcv(
    *,
    name: str,
    network: str,
    family: str,
    year: int,
    paper: Paper,
    parameters: int,
    multiply_adds: int,
    release: str,
    file: str,
    sha1: str,
    top5: float | None,
    size: int = 224,
    input: Input | None = None,  # noqa: A002
    weights: LibraryDownload | None = None,
    published: tuple[PublishedError, ...] = (),
    peers: tuple[str, ...] = (),
    dense: Conversion | None = None,
    scales: tuple[int, ...] = (),
) -> None:
    """Register a network of pytorchcv, evaluated as all of its: bilinear, 256 to 224 in proportion.

    ``release``, ``file``, ``sha1`` and ``top5``, the top-5 error in percent, are those of
    pytorchcv's table ``model_metainfos.csv``; its ``img_scale`` is 0.875 for all of them.
    """
    download = weights or PytorchcvDownload(
        tag=f"pytorchcv {network}",
        url=f"{_PYTORCHCV}/releases/download/{release}/{file}.zip",
        spdx="MIT",
        notice=(
            f"The weights are those of pytorchcv (MIT License, {_PYTORCHCV}), network {network}.\n"
            f"{_TERMS}"
        ),
        sha1=sha1,
    )

    def build(classes: int) -> nn.Module:
        from pytorchcv.model_provider import get_model

        module: nn.Module = get_model(network, pretrained=False, num_classes=classes)
        return module

    resize = math.ceil(size / _PYTORCHCV_SCALE)
    own = PublishedError(
        top5=top5,
        protocol=f"center, bilinear {resize} to {size}",
        source=f"pytorchcv {network}: {file}",
    )
    register(
        name=name,
        network=network,
        family=family,
        year=year,
        paper=paper,
        source="pytorchcv",
        parameters=parameters,
        multiply_adds=multiply_adds,
        input=input or rgb(size),
        resize=shortest_side(resize, "bilinear"),
        protocols=protocols(resize, scales),
        weights=download,
        published=(*((own,) if top5 is not None else ()), *published),
        peers=peers,
        dense=dense,
    )(build)
