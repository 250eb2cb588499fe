"""The contract between `export`, which writes it, and `service`, which obeys it.

``models/<name>/<version>/manifest.json`` says everything about one version of one model: where
its weights come from, how a picture becomes crops, which files belong to it and what was proved
about them. Numbers that act on pixels (mean, scale) are documentation here: they lie in the graph.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
from pathlib import Path
from typing import Annotated, BinaryIO, Literal, NamedTuple

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    StringConstraints,
    model_validator,
)

SCHEMA_VERSION: Literal[1] = 1
FILE_NAME = "manifest.json"

TAKEN_NAME = "stats"
"""Of the Open Inference Protocol's GET v2/models/stats, which is about all models."""


def _not_taken(name: str) -> str:
    if name == TAKEN_NAME:
        raise ValueError(f"{name!r} is no model's name: /v2/models/{name} is about all models")
    return name


NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
"""A model's name, as its folder is called."""
VERSION = re.compile(r"[1-9][0-9]{0,8}")
"""A version's number, as its folder is called."""
ModelName = Annotated[
    str, StringConstraints(pattern=f"^{NAME.pattern}$"), AfterValidator(_not_taken)
]
Version = Annotated[str, StringConstraints(pattern=f"^{VERSION.pattern}$")]
FileName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
ProtocolName = Literal["center", "ten_crop", "crops_144", "dense"]
Color = Literal["RGB", "BGR", "L"]
Precision = Literal["fp32", "fp16", "bf16", "int8"]
Side = Annotated[int, Field(ge=1, le=65_535)]
"""Pixels; no JPEG has more in a row."""
Classes = Annotated[int, Field(ge=1, le=10_000_000)]
"""A number that nobody trains to would only make work and memory of itself."""
Percent = Annotated[float, Field(ge=0, le=100)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Weights(_Part):
    """Where the trained numbers come from."""

    source: Literal["package", "library", "checkpoint", "trained", "adopted", "random"]
    origin: str
    """The package and its version, the library and its tag, the file's name, or the command."""
    url: str | None = None
    sha256: Sha256
    licence: str
    """SPDX identifier, or the words of the source where it has none."""


class Input(_Part):
    """What the graph takes: uint8 crops [N, height, width, channels].

    The graph computes ``(pixel * rescale - mean) / std`` per channel, in the order ``color``.
    """

    height: Side
    width: Side
    channels: Literal[1, 3]
    color: Color
    rescale: FiniteFloat
    mean: tuple[FiniteFloat, ...]
    std: tuple[FiniteFloat, ...]
    mean_image: FileName | None = None
    """A per-pixel mean of shape [height, width, channels] instead of ``mean``."""

    @model_validator(mode="after")
    def _channels_agree(self) -> Input:
        if (self.color == "L") != (self.channels == 1):
            raise ValueError(f"color {self.color} does not go with {self.channels} channels")
        if len(self.mean) != self.channels or len(self.std) != self.channels:
            raise ValueError("mean and std need one value per channel")
        return self


class Resize(_Part):
    """How a picture is resized before it is cropped.

    - ``shortest_side``: the shorter side becomes ``size``, the longer keeps the aspect and is
      truncated to whole pixels, as torchvision's ``Resize(int)``.
    - ``square``: the whole picture becomes ``size`` x ``size``.
    - ``exact``: the whole picture becomes the crop's height and width; ``size`` is its height.

    With ``centre_square``, crops are cut from the centre ``size`` x ``size`` of the resized
    picture alone (Krizhevsky et al. 2012, section 2).
    """

    rule: Literal["shortest_side", "square", "exact"]
    size: Side
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos"]
    antialias: Literal[True] = True
    """Pillow widens its filter when it shrinks; the service has no other way."""
    centre_square: bool = False

    @model_validator(mode="after")
    def _a_square_can_be_cut(self) -> Resize:
        if self.centre_square and self.rule != "shortest_side":
            raise ValueError(f"centre_square goes with shortest_side, not with {self.rule}")
        return self


class ProtocolSpec(_Part):
    """A protocol this model supports, with the scales it means (see docs/protocols.md)."""

    name: ProtocolName
    scales: tuple[Side, ...] = ()


class Protocols(_Part):
    """Which protocols a model supports, and which one answers when none is asked for."""

    default: ProtocolName
    supported: Annotated[tuple[ProtocolSpec, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _default_is_supported(self) -> Protocols:
        if self.default not in self.names:
            raise ValueError(f"the default protocol {self.default} is not among {self.names}")
        return self

    @property
    def names(self) -> tuple[ProtocolName, ...]:
        return tuple(spec.name for spec in self.supported)


class ModelFile(_Part):
    """A file beside the manifest, with what is needed to know it again."""

    path: FileName
    role: Literal["model", "dense", "labels", "licence", "external_data", "mean_image"]
    precision: Precision | None = None
    opset: PositiveInt | None = None
    bytes: NonNegativeInt
    sha256: Sha256


class Verification(_Part):
    """The proof that the ONNX equals the network, as `python -m export verify` measured it."""

    passed: bool
    date: str
    versions: dict[str, str]
    pictures: PositiveInt
    max_abs_probability_difference: NonNegativeFloat
    max_logit_difference_in_std: NonNegativeFloat
    """Largest |difference of logits|, in units of the standard deviation of that picture's."""
    top5_agreement: Annotated[float, Field(ge=0, le=1)]
    """Share of pictures with the same top-5 but for ties below the tolerance."""
    distinct_top5: PositiveInt
    """How many different top-5 sets the pictures gave; 1 would prove nothing."""
    remarks: tuple[str, ...] = ()
    """What a reader of the proof should know, a sentence each: of adopted models."""


Share = Annotated[float, Field(ge=0, le=1)]


class PrecisionRecord(_Part):
    """How far a file of less precision says what the file in single precision says.

    Measured on crops of pictures that it was not calibrated on, by ``python -m export build``.
    """

    date: str
    versions: dict[str, str]
    calibration: str
    """What its ranges and rounding were chosen on; "none" for half precision."""
    provider: Literal["cpu", "openvino"] = "cpu"
    """The execution provider that computed it; single precision was always computed by `cpu`."""
    measured_on: str
    crops: PositiveInt
    top1_agreement: Share
    """Share of the crops with the same first class."""
    demanded: Share
    """The least agreement that was demanded; lower than usual where a drop was allowed."""
    confident_crops: NonNegativeInt
    confident_agreement: Share
    """The same, of the crops that single precision gives a probability of half or more."""
    hard_agreement: Share
    """The same on as many crops that are cut smaller, blurred and mixed."""
    max_abs_probability_difference: NonNegativeFloat
    mean_abs_probability_difference: NonNegativeFloat
    """Of the first class."""
    signal_to_noise_db: FiniteFloat
    """Of the logits."""
    speedup: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Over single precision, batch of one, one thread of the CPU at hand; None: not measured."""
    layers: NonNegativeInt
    """Layers with weights."""
    float_layers: tuple[str, ...] = ()
    """Those of them that stay in single precision, the most sensitive first."""


class PublishedError(_Part):
    """An error that the authors, or the keepers of the weights, state; in percent."""

    dataset: str = "ImageNet-1k val"
    top1: Percent | None = None
    top5: Percent | None = None
    protocol: str
    source: str


class Paper(_Part):
    """The paper that describes the network."""

    title: str
    url: str


class Manifest(_Part):
    """One version of one network."""

    schema_version: Literal[1] = SCHEMA_VERSION
    kind: Literal["network"] = "network"
    name: ModelName
    version: Version
    network: str
    family: str
    year: Annotated[int, Field(ge=1980, le=2100)] | None = None
    """Of the paper. None, as for ``paper``, where nobody stated it: adopted models."""
    paper: Paper | None = None
    parameters: PositiveInt
    multiply_adds: PositiveInt | None = None
    """Multiplications followed by an addition, for one crop."""
    weights: Weights
    input: Input
    resize: Resize
    classes: Classes
    protocols: Protocols
    labels: FileName
    files: Annotated[tuple[ModelFile, ...], Field(min_length=1)]
    verification: Verification | None = None
    """Of the file in single precision."""
    precisions: dict[Precision, PrecisionRecord] = {}
    """Of files of less precision, each against the one in single precision."""
    published: tuple[PublishedError, ...] = ()

    @model_validator(mode="after")
    def _files_are_complete(self) -> Manifest:
        paths = [file.path for file in self.files]
        if len(set(paths)) != len(paths):
            raise ValueError("a file is listed twice")
        if FILE_NAME in paths:
            raise ValueError(f"{FILE_NAME} cannot list itself")
        if not any(file.role == "model" for file in self.files):
            raise ValueError("no file has the role model")
        if self.labels not in paths:
            raise ValueError(f"the labels file {self.labels} is not listed")
        return self

    @model_validator(mode="after")
    def _precisions_have_files(self) -> Manifest:
        missing = set(self.precisions) - set(self.model_precisions)
        if missing:
            raise ValueError(f"there is no model file of precision {', '.join(sorted(missing))}")
        return self

    @model_validator(mode="after")
    def _scales_hold_a_crop(self) -> Manifest:
        crop = max(self.input.height, self.input.width)
        for spec in self.protocols.supported:
            if any(scale < crop for scale in spec.scales):
                raise ValueError(f"{spec.name} has a scale below the crop of {crop}")
        if self.resize.centre_square and self.resize.size < crop:
            raise ValueError(f"the centre square of {self.resize.size} is below the crop of {crop}")
        return self

    @property
    def model_precisions(self) -> tuple[Precision, ...]:
        """The precisions that the network itself can be served in."""
        return tuple(f.precision for f in self.files if f.role == "model" and f.precision)

    def file(self, role: str, precision: str | None = None) -> ModelFile:
        """The first file with this role (and precision). Raises KeyError when there is none."""
        for file in self.files:
            if file.role == role and precision in (None, file.precision):
                return file
        raise KeyError(f"{self.name} version {self.version} has no file for {role} {precision}")


class Member(_Part):
    """One network of an ensemble."""

    model: ModelName
    version: Version | None = None
    """None: the newest that is served."""
    protocol: ProtocolName | None = None
    """None: the model's default."""
    weight: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0


class EnsembleManifest(_Part):
    """Several networks that answer as one: the weighted mean of their softmax vectors."""

    schema_version: Literal[1] = SCHEMA_VERSION
    kind: Literal["ensemble"]
    name: ModelName
    version: Version
    description: str
    year: Annotated[int, Field(ge=1980, le=2100)] | None = None
    paper: Paper | None = None
    classes: Classes
    members: Annotated[tuple[Member, ...], Field(min_length=2, max_length=64)]
    published: tuple[PublishedError, ...] = ()


AnyManifest = Annotated[Manifest | EnsembleManifest, Field(discriminator="kind")]
"""What a manifest.json may hold."""


class RefusedModelError(Exception):
    """A version on disk that must not be served; the message says why, for the operator."""


class Label(NamedTuple):
    """What an index of the network's output means."""

    synset: str | None
    """WordNet 3.0 synset id such as n02130308; None where the classes are not WordNet's."""
    name: str


class IrregularFileError(OSError):
    """Where a file should be there is a FIFO, a socket, a device or a folder."""


def open_regular(path: Path) -> BinaryIO:
    """Open a file to read its bytes. Raises OSError, also for what is no regular file.

    A FIFO would keep its reader until somebody writes, and a device may have no end.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise IrregularFileError(errno.EINVAL, "it is no regular file", str(path))
    return os.fdopen(descriptor, "rb")


def sha256_of(path: Path) -> str:
    """SHA-256 of a regular file as 64 hex digits, read in pieces of 1 MiB. Raises OSError."""
    digest = hashlib.sha256()
    with open_regular(path) as stream:
        while piece := stream.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()
