"""``config.json`` beside a file of weights, as timm and transformers write it for their hub.

It says which network the weights are for, the names of the classes and, with
``preprocessor_config.json``, how pictures were preprocessed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from export.errors import ExportError, UnreadableWeights

FILE_NAME = "config.json"
_PROCESSOR = "preprocessor_config.json"
_MOST_BYTES = 16_000_000
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_RESNETS: dict[tuple[str, tuple[int, ...]], str] = {
    ("basic", (2, 2, 2, 2)): "resnet18",
    ("basic", (3, 4, 6, 3)): "resnet34",
    ("bottleneck", (3, 4, 6, 3)): "resnet50",
    ("bottleneck", (3, 4, 23, 3)): "resnet101",
    ("bottleneck", (3, 8, 36, 3)): "resnet152",
}
"""By the layers and depths of transformers' ResNet the network of timm."""
_CONVNEXTS: dict[tuple[tuple[int, ...], int], str] = {
    ((3, 3, 9, 3), 96): "convnext_tiny",
    ((3, 3, 27, 3), 96): "convnext_small",
    ((3, 3, 27, 3), 128): "convnext_base",
    ((3, 3, 27, 3), 192): "convnext_large",
    ((3, 3, 27, 3), 256): "convnext_xlarge",
}
"""By the depths and the first width of transformers' ConvNeXt the network of timm."""
_RESAMPLE = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}
"""Pillow's numbers, which transformers writes down."""
_Kind = TypeVar("_Kind", bound=BaseModel)
_ONE_LABEL = "single_label_classification"
_SQUASHED_FROM = 384
"""From this side on ConvNextImageProcessor resizes the whole picture to the crop."""


@dataclass(frozen=True)
class ModelConfig:
    """What the file says."""

    file: Path
    network: str
    """``timm:ARCH``."""
    labels: tuple[str, ...] = ()
    preprocessing: Mapping[str, Any] = field(default_factory=dict)
    """``size``, ``crop_pct``, ``interpolation``, ``mean``, ``std``: those that are stated."""


def locate(path: Path) -> tuple[Path, Path]:
    """The weights and the config of a folder, or of the file of weights in one.

    Raises ExportError where one of the two is missing.
    """
    if not path.exists():
        raise ExportError(f"there is no file or folder {path}")
    folder = path if path.is_dir() else path.parent
    config = folder / FILE_NAME
    if not config.is_file():
        raise ExportError(
            f"{folder} has no {FILE_NAME} to say which network it is: name the network"
        )
    if path.is_file():
        return path, config
    for name in _WEIGHTS:
        if (folder / name).is_file():
            return folder / name, config
    raise ExportError(f"{folder} has no {' or '.join(_WEIGHTS)}")


def beside(weights: Path | None) -> ModelConfig | None:
    """The config beside a file of weights as hubs keep them; None where there is none of theirs."""
    if weights is None or weights.suffix not in (".safetensors", ".bin"):
        return None
    file = weights.parent / FILE_NAME
    if not file.is_file() or not _json(file).keys() & {"architecture", "architectures"}:
        return None
    return read(file)


class _Loose(BaseModel):
    """What of a file is understood; other members are another's business."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)


class _Evaluation(_Loose):
    """``pretrained_cfg`` of timm."""

    input_size: tuple[int, int, int] | None = None
    crop_pct: float | None = None
    crop_mode: Literal["center", "squash"] | None = None
    interpolation: str | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    label_names: tuple[str, ...] | None = None


class _Timm(_Evaluation):
    """``config.json`` of timm; older ones have the evaluation beside the architecture."""

    architecture: str
    pretrained_cfg: _Evaluation | None = None
    model_args: dict[str, Any] | None = None
    global_pool: str | None = None


class _Transformers(_Loose):
    """``config.json`` of transformers' ResNet and ConvNeXt."""

    architectures: Annotated[tuple[str, ...], Field(min_length=1)]
    depths: tuple[int, ...] = ()
    hidden_sizes: tuple[int, ...] = ()
    embedding_size: int = 64
    num_channels: int = 3
    layer_type: str = "bottleneck"
    hidden_act: str | None = None
    downsample_in_bottleneck: bool = False
    downsample_in_first_stage: bool = False
    problem_type: str | None = None
    id2label: dict[str, str] = {}


class _Edge(_Loose):
    shortest_edge: int


class _Processor(_Loose):
    """``preprocessor_config.json`` of transformers' ConvNeXt, which its ResNet has too."""

    image_processor_type: str | None = None
    feature_extractor_type: str | None = None
    size: _Edge | int
    crop_pct: float | None = None
    crop_size: Any = None
    resample: int = 3
    image_mean: tuple[float, ...] | None = None
    image_std: tuple[float, ...] | None = None
    do_resize: bool = True
    do_rescale: bool = True
    do_normalize: bool = True
    rescale_factor: float = 1 / 255


def read(file: Path) -> ModelConfig:
    """Read ``config.json``. Raises UnreadableWeights for one of another kind, of a network that is
    not known here, or of one that computes something else than the network of that name.
    """
    content = _json(file)
    if "architecture" in content:
        return _timm(file, _parsed(_Timm, file, content))
    found = _parsed(_Transformers, file, content)
    reference = _transformers(file, found)
    return ModelConfig(file, reference, _id2label(found), _processor(file.parent / _PROCESSOR))


def _parsed(kind: type[_Kind], file: Path, content: Mapping[str, Any]) -> _Kind:
    try:
        return kind.model_validate_json(json.dumps(content))
    except (ValidationError, ValueError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else None
        words = f"{'.'.join(map(str, first['loc']))}: {first['msg']}" if first else str(error)
        raise UnreadableWeights(f"{file} cannot be used: {words}") from error


def _timm(file: Path, config: _Timm) -> ModelConfig:
    if config.model_args:
        raise UnreadableWeights(
            f"{file} has model_args {', '.join(config.model_args)}: it is another network than "
            f"timm's {config.architecture}; export it to ONNX and adopt that"
        )
    if config.global_pool not in (None, "avg", "token", "map", "fast", ""):
        raise UnreadableWeights(f"{file} pools by {config.global_pool}, which is not known here")
    rules = config.pretrained_cfg or config
    names = ("crop_pct", "interpolation", "mean", "std")
    said = {name: getattr(rules, name) for name in names if getattr(rules, name) is not None}
    if rules.input_size is not None:
        channels, height, width = rules.input_size
        if channels != 3 or height != width:
            raise UnreadableWeights(f"{file} is of {channels}x{height}x{width}: no RGB square")
        said["size"] = height
    if rules.crop_mode is not None:
        said["rule"] = {"center": "shortest_side", "squash": "square"}[rules.crop_mode]
    labels = config.label_names or rules.label_names or ()
    return ModelConfig(file, f"timm:{config.architecture}", labels, said)


def _transformers(file: Path, config: _Transformers) -> str:
    kind, activation = config.architectures[0], config.hidden_act
    found = None
    odd = config.num_channels != 3 or config.problem_type not in (None, _ONE_LABEL)
    if kind == "ResNetForImageClassification":
        odd |= config.downsample_in_bottleneck or config.downsample_in_first_stage
        odd |= activation not in (None, "relu") or config.embedding_size != 64
        found = _RESNETS.get((config.layer_type, config.depths))
    elif kind == "ConvNextForImageClassification":
        odd |= activation not in (None, "gelu")
        found = _CONVNEXTS.get((config.depths, next(iter(config.hidden_sizes), 0)))
    if found is None:
        raise UnreadableWeights(
            f"{file} is of {kind}, depths {list(config.depths)}, which is not known here: export "
            "it to ONNX and adopt that"
        )
    if odd:
        raise UnreadableWeights(f"{file} is of a {kind} of another form than timm's {found}")
    return f"timm:{found}"


def _id2label(config: _Transformers) -> tuple[str, ...]:
    try:
        numbered = {int(number): name for number, name in config.id2label.items()}
    except ValueError:
        return ()
    labels = tuple(numbered.get(number, "") for number in range(len(numbered)))
    # transformers writes LABEL_0 and so on where nobody named the classes
    unnamed = all(name == f"LABEL_{number}" for number, name in enumerate(labels))
    return () if unnamed or not all(labels) else labels


def _processor(file: Path) -> dict[str, Any]:
    """What the processor says. Raises UnreadableWeights for a rule that is not ConvNeXt's."""
    if not file.is_file():
        return {}
    config = _parsed(_Processor, file, _json(file))
    kind = config.image_processor_type or config.feature_extractor_type
    if kind is not None and not kind.startswith("ConvNext"):
        raise UnreadableWeights(f"{file} is of {kind}, whose rules are not known here")
    side = config.size if isinstance(config.size, int) else config.size.shortest_edge
    all_done = config.do_resize and config.do_rescale and config.do_normalize
    if not all_done or abs(config.rescale_factor * 255 - 1) > 1e-3 or config.crop_size is not None:
        raise UnreadableWeights(f"{file} leaves steps out that are always done here")
    if side >= _SQUASHED_FROM:
        raise UnreadableWeights(
            f"{file} resizes the whole picture to {side}x{side}, which is not known here: export "
            "the network to ONNX and adopt that"
        )
    if config.resample not in _RESAMPLE:
        raise UnreadableWeights(f"{file} resizes by {config.resample}, which is not known here")
    said: dict[str, Any] = {"size": side, "interpolation": _RESAMPLE[config.resample]}
    said["crop_pct"] = 0.875 if config.crop_pct is None else config.crop_pct
    if config.image_mean is not None:
        said["mean"] = config.image_mean
    if config.image_std is not None:
        said["std"] = config.image_std
    return said


def _json(file: Path) -> dict[str, Any]:
    try:
        if file.stat().st_size > _MOST_BYTES:
            raise UnreadableWeights(f"{file} is larger than {_MOST_BYTES} bytes")
        content = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UnreadableWeights(f"cannot read {file}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise UnreadableWeights(f"{file} is no JSON: {error}") from error
    if not isinstance(content, dict):
        raise UnreadableWeights(f"{file} holds no JSON object")
    return content
