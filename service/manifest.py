"""The contract between `export`, which writes it, and `service`, which obeys it.

``models/<name>/<version>/manifest.json`` says everything about one version of one model: where
its weights come from, how a picture becomes crops, which files belong to it and what was proved
about them. The mean and scale of pixels stand here as documentation only: the graph applies them.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import stat
from pathlib import Path
from typing import Annotated, BinaryIO, Literal, NamedTuple, Self

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

SCHEMA_VERSION: Literal[2] = 2
"""Of what is written. Schema 1, without ``activation``, ``build`` and ``digest``, is read too."""
FILE_NAME = "manifest.json"

TAKEN_NAME = "stats"
"""No model may have this name: GET v2/models/stats of the Open Inference Protocol is about all
models."""


def _not_taken(name: str) -> str:
    if name == TAKEN_NAME:
        raise ValueError(f"{name!r} is no model's name: /v2/models/{name} is about all models")
    return name


NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
"""A model's name, which is also its folder's."""
VERSION = re.compile(r"[1-9][0-9]{0,8}")
"""A version's number, which is also its folder's name."""
ModelName = Annotated[
    str, StringConstraints(pattern=f"^{NAME.pattern}$"), AfterValidator(_not_taken)
]
Version = Annotated[str, StringConstraints(pattern=f"^{VERSION.pattern}$")]
FileName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
ProtocolName = Literal["center", "ten_crop", "crops_144", "crops_150", "dense"]
Color = Literal["RGB", "BGR", "L"]
Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]
Precision = Literal["fp32", "fp16", "bf16", "int8"]
Side = Annotated[int, Field(ge=1, le=65_535)]
"""A side in pixels; no JPEG has a longer one."""
Classes = Annotated[int, Field(ge=1, le=10_000_000)]
"""The number of classes. The limit is beyond any trained network, and bounds what a wrong manifest
can cost in time and memory."""
Activation = Literal["softmax", "sigmoid"]
"""What makes probabilities of logits: ``sigmoid`` where several classes may be right at once."""
Percent = Annotated[float, Field(ge=0, le=100)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Weights(_Part):
    """Where the trained numbers come from."""

    source: Literal["package", "library", "checkpoint", "trained", "adopted", "random"]
    origin: str
    """By ``source``: the package and version, library and tag, file name, or command."""
    url: str | None = None
    sha256: Sha256
    licence: str
    """An SPDX identifier, or the words of the source where there is none."""


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
    interpolation: Interpolation
    antialias: Literal[True] = True
    """Pillow always widens its filter where a picture shrinks, so nothing else can be served."""
    centre_square: bool = False

    @model_validator(mode="after")
    def _a_square_can_be_cut(self) -> Resize:
        if self.centre_square and self.rule != "shortest_side":
            raise ValueError(f"centre_square goes with shortest_side, not with {self.rule}")
        return self


class ProtocolSpec(_Part):
    """A protocol that a model supports (docs/protocols.md)."""

    name: ProtocolName
    scales: tuple[Side, ...] = ()
    """Shorter sides of the resized picture in pixels; empty: the protocol's own."""


class Protocols(_Part):
    """The protocols that a model supports, and the one for requests that name none."""

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
    """A file beside the manifest, with the size and hash by which it is checked."""

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
    """Largest |difference of logits|, in standard deviations of the same picture's logits."""
    top5_agreement: Annotated[float, Field(ge=0, le=1)]
    """Share of pictures with the same top-5, where ties below the tolerance do not count."""
    distinct_top5: PositiveInt
    """How many different top-5 sets the pictures gave; a single one would prove nothing."""
    remarks: tuple[str, ...] = ()
    """Sentences that a reader of the proof of an adopted model should know."""


class Build(_Part):
    """What ``python -m export build`` was asked for, so that ``verify`` can build it again."""

    network: str
    """A name of the zoo, or ``timm:ARCH[.TAG]``, ``torchvision:ARCH[.WEIGHTS]``."""
    preprocessing: Literal["recognised", "stated", "assumed"]
    """How it is known that the weights were trained with this preprocessing: the weights are those
    of the network's own source; the user or the file says so; or nobody does, and the network's
    own was taken."""
    labels: Literal["known", "given", "file", "numbered"]
    """Where the names of the classes come from: the network's own set, the user's file, the file of
    weights, or nowhere."""
    trained_as: str | None = None
    """The network as which the weights were trained, by the user's word."""
    prefix: str | None = None
    averaged: bool = True
    size: Side | None = None
    """This and what follows: what the user said of the training, instead of the network's own."""
    crop_pct: Annotated[float, Field(gt=0, le=1)] | None = None
    """Crop over resized side."""
    interpolation: Interpolation | None = None
    color: Color | None = None
    mean: tuple[FiniteFloat, ...] | None = None
    std: tuple[FiniteFloat, ...] | None = None
    """As ``mean``, of pixels scaled to 0 to 1 where the network's own are."""
    remarks: tuple[str, ...] = ()
    """What was done to fit the weights to the network, a sentence each."""


Share = Annotated[float, Field(ge=0, le=1)]


class PrecisionRecord(_Part):
    """How far a file of less precision agrees with the file in single precision.

    ``python -m export build`` measures it, on pictures that were not used for the calibration.
    """

    date: str
    versions: dict[str, str]
    calibration: str
    """The data by which its ranges and rounding were chosen; "none" for half precision."""
    provider: Literal["cpu", "openvino"] = "cpu"
    """The execution provider that computed it; single precision was always computed by `cpu`."""
    measured_on: str
    crops: PositiveInt
    top1_agreement: Share
    """Share of the crops with the same first class."""
    demanded: Share
    """The least ``top1_agreement`` that was demanded; lower than usual where a drop was allowed."""
    confident_crops: NonNegativeInt
    """How many crops get a probability of 0.5 or more in single precision."""
    confident_agreement: Share
    """Share of those crops with the same first class."""
    hard_agreement: Share
    """Share of as many crops that are cut smaller, blurred and mixed, with the same first class."""
    max_abs_probability_difference: NonNegativeFloat
    mean_abs_probability_difference: NonNegativeFloat
    """Mean over the crops of the difference for the first class."""
    signal_to_noise_db: FiniteFloat
    """Signal-to-noise ratio of the logits, in dB."""
    speedup: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """How many times faster than single precision a batch of one is, on one thread of the CPU that
    measured; None: not measured."""
    layers: NonNegativeInt
    """The number of layers with weights."""
    float_layers: tuple[str, ...] = ()
    """The layers that stay in single precision, the most sensitive first."""


class PublishedError(_Part):
    """An error in percent, as the authors or the publishers of the weights state it."""

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

    schema_version: Literal[1, 2] = SCHEMA_VERSION
    kind: Literal["network"] = "network"
    name: ModelName
    version: Version
    network: str
    family: str
    year: Annotated[int, Field(ge=1980, le=2100)] | None = None
    """The year of the paper; None, as ``paper``, where an adopted model states none."""
    paper: Paper | None = None
    parameters: PositiveInt
    multiply_adds: PositiveInt | None = None
    """Multiplications followed by an addition, for one crop."""
    weights: Weights
    input: Input
    resize: Resize
    classes: Classes
    activation: Activation = "softmax"
    protocols: Protocols
    labels: FileName
    files: Annotated[tuple[ModelFile, ...], Field(min_length=1)]
    verification: Verification | None = None
    """The proof of the file in single precision; None: it was not measured."""
    precisions: dict[Precision, PrecisionRecord] = {}
    """How far each file of less precision agrees with the one in single precision."""
    published: tuple[PublishedError, ...] = ()
    build: Build | None = None
    """What the build was asked for; None for adopted models, and in schema 1."""
    digest: Sha256 | None = None
    """Of everything else here, as `signed` makes it: a manifest that was edited has another."""

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

    def signed(self) -> Self:
        """The same manifest with the digest of what it says."""
        return self.model_copy(update={"digest": self._digest()})

    @property
    def as_built(self) -> bool | None:
        """Whether it says what it said when it was written; None where it has no digest."""
        return None if self.digest is None else self.digest == self._digest()

    def _digest(self) -> str:
        """SHA-256 of the facts as JSON with sorted keys, without the digest itself."""
        # what is as it is by default is left out, so that a field that comes later changes nothing
        facts = self.model_dump(mode="json", exclude={"digest"}, exclude_defaults=True)
        text = json.dumps(facts, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def model_precisions(self) -> tuple[Precision, ...]:
        """The precisions that the network itself can be served in."""
        return tuple(f.precision for f in self.files if f.role == "model" and f.precision)

    def file(self, role: str, precision: str | None = None) -> ModelFile:
        """Return the first file with this role (and precision). Raises KeyError without one."""
        for file in self.files:
            if file.role == role and precision in (None, file.precision):
                return file
        raise KeyError(f"{self.name} version {self.version} has no file for {role} {precision}")


class Member(_Part):
    """One network of an ensemble."""

    model: ModelName
    version: Version | None = None
    """The version to use; None: the newest that is served."""
    protocol: ProtocolName | None = None
    """The protocol to use; None: the model's default."""
    scales: tuple[Side, ...] = ()
    """Shorter sides in pixels for that protocol; empty: the model's own."""
    weight: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0


class EnsembleManifest(_Part):
    """Several networks that answer as one: the weighted mean of their softmax vectors."""

    schema_version: Literal[1, 2] = SCHEMA_VERSION
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
"""What a manifest.json may hold: a network or an ensemble."""


class RefusedModelError(Exception):
    """A version on disk must not be served; the message says why, for the operator."""


class Label(NamedTuple):
    """The class that an index of the network's output stands for."""

    synset: str | None
    """WordNet 3.0 synset id such as n02130308; None where the classes are not WordNet's."""
    name: str


class IrregularFileError(OSError):
    """A path leads to a FIFO, a socket, a device or a folder where a file should be."""


def open_regular(path: Path) -> BinaryIO:
    """Open a file to read its bytes. Raises OSError, IrregularFileError for no regular file.

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
