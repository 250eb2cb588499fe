"""``config.json`` beside a file of weights, as timm and transformers write it for their hub.

It says which network the weights are for, the names of the classes and, with
``preprocessor_config.json``, how pictures were preprocessed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from export.errors import ExportError, UnreadableWeights

FILE_NAME = "config.json"
_PROCESSOR = "preprocessor_config.json"
_MOST_BYTES = 16_000_000
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_RESNETS = {
    ("basic", (2, 2, 2, 2)): "resnet18",
    ("basic", (3, 4, 6, 3)): "resnet34",
    ("bottleneck", (3, 4, 6, 3)): "resnet50",
    ("bottleneck", (3, 4, 23, 3)): "resnet101",
    ("bottleneck", (3, 8, 36, 3)): "resnet152",
}
"""By the layers and depths of transformers' ResNet the network of timm."""
_CONVNEXTS = {
    ((3, 3, 9, 3), 96): "convnext_tiny",
    ((3, 3, 27, 3), 96): "convnext_small",
    ((3, 3, 27, 3), 128): "convnext_base",
    ((3, 3, 27, 3), 192): "convnext_large",
    ((3, 3, 27, 3), 256): "convnext_xlarge",
}
"""By the depths and the first width of transformers' ConvNeXt the network of timm."""
_RESAMPLE = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}
"""Pillow's numbers, which transformers writes down."""
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
    """The config beside a file of weights as hubs keep them; None where there is none."""
    if weights is None or weights.suffix not in (".safetensors", ".bin"):
        return None
    file = weights.parent / FILE_NAME
    return read(file) if file.is_file() else None


def read(file: Path) -> ModelConfig:
    """Read ``config.json``. Raises UnreadableWeights for one of another kind, or of a network that
    is not known here.
    """
    content = _json(file)
    if isinstance(content.get("architecture"), str):
        return _timm(file, content)
    names = content.get("architectures") or [None]
    reference = _transformers(file, str(names[0]), content)
    return ModelConfig(file, reference, _id2label(content), _processor(file.parent / _PROCESSOR))


def _timm(file: Path, content: Mapping[str, Any]) -> ModelConfig:
    config = content.get("pretrained_cfg") or content
    labels = content.get("label_names") or config.get("label_names") or ()
    said = {name: config[name] for name in ("crop_pct", "interpolation") if config.get(name)}
    said |= {name: tuple(config[name]) for name in ("mean", "std") if config.get(name)}
    if config.get("input_size"):
        said["size"] = config["input_size"][-1]
    if config.get("crop_mode", "center") != "center":
        raise UnreadableWeights(
            f"{file} is evaluated with the crop mode {config['crop_mode']}, which is not served"
        )
    return ModelConfig(file, f"timm:{content['architecture']}", tuple(map(str, labels)), said)


def _transformers(file: Path, kind: str, content: Mapping[str, Any]) -> str:
    depths = tuple(content.get("depths", ()))
    widths = content.get("hidden_sizes", [0])
    found = None
    if kind == "ResNetForImageClassification":
        if content.get("downsample_in_bottleneck") or content.get("hidden_act", "relu") != "relu":
            raise UnreadableWeights(f"{file} is a ResNet of another form than timm's")
        found = _RESNETS.get((content.get("layer_type", "bottleneck"), depths))
    elif kind == "ConvNextForImageClassification":
        found = _CONVNEXTS.get((depths, widths[0]))
    if found is None:
        raise UnreadableWeights(
            f"{file} is of {kind}, depths {list(depths)}, which is not known here: export it to "
            "ONNX and adopt that"
        )
    return f"timm:{found}"


def _id2label(content: Mapping[str, Any]) -> tuple[str, ...]:
    names = content.get("id2label")
    if not isinstance(names, Mapping):
        return ()
    try:
        numbered = {int(number): str(name) for number, name in names.items()}
    except ValueError:
        return ()
    labels = tuple(numbered.get(number, "") for number in range(len(numbered)))
    # transformers writes LABEL_0 and so on where nobody named the classes
    unnamed = all(name == f"LABEL_{number}" for number, name in enumerate(labels))
    return () if unnamed or not all(labels) else labels


def _processor(file: Path) -> dict[str, Any]:
    """What transformers' image processor says, where its rule is one that is served."""
    if not file.is_file():
        return {}
    content = _json(file)
    size = content.get("size", {})
    side = size.get("shortest_edge") if isinstance(size, Mapping) else size
    said: dict[str, Any] = {}
    if isinstance(side, int) and side >= _SQUASHED_FROM:
        raise UnreadableWeights(
            f"{file} resizes the whole picture to {side}x{side}, which is not known here: export "
            "the network to ONNX and adopt that"
        )
    if isinstance(side, int):
        said |= {"size": side, "crop_pct": content.get("crop_pct") or 0.875}
    if content.get("resample") in _RESAMPLE:
        said["interpolation"] = _RESAMPLE[content["resample"]]
    for name in ("mean", "std"):
        if content.get(f"image_{name}"):
            said[name] = tuple(content[f"image_{name}"])
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
