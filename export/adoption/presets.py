"""Name the preprocessing of the libraries that foreign classifiers come from.

A preset says what the training code did to a picture before the network saw it. Each of its
fields can be overridden, because an ONNX file does not say how it was trained.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from export.errors import ExportError
from service.manifest import Color, Input, Resize

Rule = Literal["shortest_side", "square", "exact"]
Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)
_CROP_SHARE = 0.875
"""The share of the resized picture's side that is cut out: 224 of 256."""


def _rounded(crop: int) -> int:
    return round(crop / _CROP_SHARE)  # torchvision: 224 -> 256, 299 -> 342


def _floored(crop: int) -> int:
    return math.floor(crop / _CROP_SHARE)  # timm: 224 -> 256, 299 -> 341


def _caffe(crop: int) -> int:
    return 256 if crop <= 256 else _rounded(crop)  # AlexNet's 227 is cut from 256 as well


@dataclass(frozen=True)
class Preset:
    """``(pixel * rescale - mean) / std`` in the order ``color``, and how the picture is resized."""

    source: str
    """Whose preprocessing this is, for a person."""
    color: Color
    rescale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: Interpolation
    resize: Callable[[int], int]
    """Side of the crop -> shortest side of the resized picture, both in pixels."""


PRESETS: dict[str, Preset] = {
    "caffe": Preset(
        "Caffe models of the VGG team: BGR minus the mean colour of ImageNet",
        *("BGR", 1.0, (103.939, 116.779, 123.68), (1.0, 1.0, 1.0), "bilinear", _caffe),
    ),
    "caffe-bvlc": Preset(
        "BVLC's reference models (AlexNet, CaffeNet, GoogLeNet): BGR minus whole numbers",
        *("BGR", 1.0, (104.0, 117.0, 123.0), (1.0, 1.0, 1.0), "bilinear", _caffe),
    ),
    "torchvision": Preset(
        "torchvision, and most exports from PyTorch",
        *("RGB", 1 / 255, _IMAGENET_MEAN, _IMAGENET_STD, "bilinear", _rounded),
    ),
    "timm": Preset(
        "timm, models with ImageNet's mean and deviation",
        *("RGB", 1 / 255, _IMAGENET_MEAN, _IMAGENET_STD, "bicubic", _floored),
    ),
    "timm-inception": Preset(
        "timm, models with mean and deviation 0.5",
        *("RGB", 1 / 255, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bicubic", _floored),
    ),
    "tensorflow": Preset(
        "TensorFlow and Keras, models that take -1 to 1",
        *("RGB", 1 / 127.5, (1.0, 1.0, 1.0), (1.0, 1.0, 1.0), "bilinear", _rounded),
    ),
    "zero_one": Preset(
        "models that take 0 to 1",
        *("RGB", 1 / 255, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), "bilinear", _rounded),
    ),
    "raw": Preset(
        "models that take bytes, 0 to 255, and normalise by themselves",
        *("RGB", 1.0, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), "bilinear", _rounded),
    ),
}


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """A preset's name, and the values that replace its own; None keeps the preset's."""

    preset: str
    color: Color | None = None
    rescale: float | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    interpolation: Interpolation | None = None
    rule: Rule = "shortest_side"
    resize: int | None = None
    centre_square: bool = False

    def __post_init__(self) -> None:
        """Raise ExportError for an unknown preset and for values that are out of range."""
        if self.preset not in PRESETS:
            raise ExportError(f"unknown preset {self.preset!r}: there are {', '.join(PRESETS)}")
        for name in ("mean", "std"):
            values = getattr(self, name)
            if values is not None and not all(map(math.isfinite, values)):
                raise ExportError(f"--{name} has a value that is no number")
        if self.std is not None and not all(value > 0 for value in self.std):
            raise ExportError("--std must be above 0")
        if self.rescale is not None and not (math.isfinite(self.rescale) and self.rescale > 0):
            raise ExportError("--rescale must be above 0")

    def input(self, height: int, width: int, channels: int) -> Input:
        """Return the graph's input for crops of this size in pixels.

        Raises ExportError where the values do not fit the channels.
        """
        preset = PRESETS[self.preset]
        color = self.color or ("L" if channels == 1 else preset.color)
        if (color == "L") != (channels == 1):
            raise ExportError(f"--color {color} does not go with {channels} channels")
        return Input(
            height=height,
            width=width,
            channels=1 if channels == 1 else 3,
            color=color,
            rescale=preset.rescale if self.rescale is None else self.rescale,
            mean=self._per_channel("mean", channels),
            std=self._per_channel("std", channels),
        )

    def resizing(self, height: int, width: int) -> Resize:
        """Return how a picture is resized for crops of this size in pixels.

        Raises ExportError where rule and sizes contradict each other.
        """
        preset = PRESETS[self.preset]
        crop = max(height, width)
        size = height if self.rule == "exact" else self.resize or preset.resize(crop)
        if self.rule == "exact" and self.resize not in (None, height):
            raise ExportError("--rule exact resizes to the crop: it takes no --resize")
        if self.centre_square and (self.rule != "shortest_side" or size < crop):
            raise ExportError(
                f"--centre-square goes with --rule shortest_side and a --resize of {crop} or more"
            )
        return Resize(
            rule=self.rule,
            size=size,
            interpolation=self.interpolation or preset.interpolation,
            centre_square=self.centre_square,
        )

    def _per_channel(self, name: str, channels: int) -> tuple[float, ...]:
        values: tuple[float, ...] | None = getattr(self, name)
        if values is None:
            values = getattr(PRESETS[self.preset], name)
            if channels == 1 and len(set(values)) == 1:
                values = values[:1]
        elif len(values) == 1:
            values = values * channels
        if len(values) != channels:
            source = f"--{name}" if getattr(self, name) is not None else f"preset {self.preset}"
            raise ExportError(
                f"{source} has {len(values)} values of {name} for {channels} channels: "
                f"give {channels} with --{name}"
            )
        return values


def numbers(text: str, option: str) -> tuple[float, ...]:
    """Read numbers such as ``"103.939,116.779,123.68"`` or ``"1/255"``.

    Raises ExportError, naming ``option``, where one is none.
    """
    return tuple(number(part, option) for part in text.split(","))


def number(text: str, option: str) -> float:
    """Read a number, or a quotient such as ``1/255``. Raises ExportError, naming ``option``."""
    above, _, below = text.partition("/")
    try:
        return float(above) / float(below or 1)
    except (ValueError, ZeroDivisionError):
        raise ExportError(f"{option}: {text!r} is no number") from None
