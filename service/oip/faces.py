"""The two faces of a model: NAME takes encoded pictures, NAME.tensor ready-made crops.

No name of a model holds a dot (`service.manifest.ModelName`), so the suffix is never part of one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from service.catalogue import Answerer, Refusal
from service.dataplane import DataPlane
from service.ensemble import PROTOCOL_NAME, Ensemble
from service.errors import UnknownModel
from service.network import Network

SUFFIX = ".tensor"
PLATFORM = "onnxruntime_onnx"
ENSEMBLE_PLATFORM = "ensemble"
BACKEND = "onnxruntime"
MOST_NAME = 128
"""Characters of a name that is looked up at all."""
ANY = -1
"""A dimension of any size."""

_TYPES = {"BYTES": "TYPE_STRING", "UINT8": "TYPE_UINT8", "INT64": "TYPE_INT64", "FP32": "TYPE_FP32"}
"""Datatypes as model_config.proto calls them."""


@dataclass(frozen=True, slots=True)
class Spec:
    """An input or output: name, datatype, shape with `ANY` for what is not fixed."""

    name: str
    datatype: str
    shape: tuple[int, ...]

    def metadata(self) -> dict[str, Any]:
        """As the model's metadata lists it."""
        return {"name": self.name, "datatype": self.datatype, "shape": list(self.shape)}


@dataclass(frozen=True, slots=True)
class Face:
    """A version of a model, seen from one side."""

    name: str
    """As the client calls it."""
    model: Answerer
    crops: bool
    """Whether it takes crops: then ``model`` is a network."""
    input: Spec
    outputs: tuple[Spec, ...]
    classifiable: tuple[str, ...]
    """The outputs that the classification extension can turn into text."""


def base(name: str) -> str:
    """The model behind a face's name. Raises UnknownModel for what cannot be one."""
    if not 1 <= len(name) <= MOST_NAME:
        raise UnknownModel(f"a model's name has 1 to {MOST_NAME} characters")
    return name.removesuffix(SUFFIX)


async def find(plane: DataPlane, name: str, version: str | None) -> Face:
    """The version that answers, loaded or not. Raises UnknownModel, or NotReady if refused."""
    if version is not None and len(version) > MOST_NAME:
        raise UnknownModel(f"a version has at most {MOST_NAME} characters")
    model = await plane.model(base(name), version)
    if not name.endswith(SUFFIX):
        return _of_pictures(name, model)
    if isinstance(model, Ensemble):
        raise UnknownModel(
            f"there is no model {name!r}: the networks of an ensemble take crops of their own"
        )
    return _of_crops(name, model)


def names(plane: DataPlane, name: str, version: str) -> list[str]:
    """The faces of one version in the repository; of a refused one only the first is known."""
    found = [model for model in plane.catalogue.versions(name) if model.version == version]
    is_network = any(isinstance(model, Network) for model in found)
    return [name, name + SUFFIX] if is_network else [name]


def metadata(plane: DataPlane, face: Face) -> dict[str, Any]:
    """What GET /v2/models/{name} and ModelMetadata say."""
    versions = plane.catalogue.versions(face.model.name)
    return {
        "name": face.name,
        "versions": [model.version for model in versions if not isinstance(model, Refusal)],
        "platform": _platform(face.model),
        "inputs": [face.input.metadata()],
        "outputs": [spec.metadata() for spec in face.outputs],
    }


def config(plane: DataPlane, face: Face) -> dict[str, Any]:
    """Triton's ModelConfig, in its JSON form.

    ``max_batch_size`` is what one request may hold; batches are formed of many requests, of a size
    that is learnt at load.
    """
    skip = 1 if face.crops else 0
    size: dict[str, Any] = {"max_batch_size": _most_crops(plane, face) if face.crops else 0}
    given: dict[str, Any] = {"format": "FORMAT_NHWC" if face.crops else "FORMAT_NONE"}
    return {
        "name": face.name,
        "platform": _platform(face.model),
        "backend": "" if isinstance(face.model, Ensemble) else BACKEND,
        "version_policy": {"all": {}},
        **size,
        "input": [{**_tensor(face.input, skip), **given}],
        "output": [
            {**_tensor(spec, skip), "label_filename": _labels(face)} for spec in face.outputs
        ],
        **({"dynamic_batching": {}} if face.crops else {}),
        "parameters": {key: {"string_value": value} for key, value in _facts(face.model).items()},
    }


def _of_pictures(name: str, model: Answerer) -> Face:
    outputs = (
        Spec("probabilities", "FP32", (ANY, ANY)),
        Spec("indices", "INT64", (ANY, ANY)),
        Spec("labels", "BYTES", (ANY, ANY)),
    )
    return Face(name, model, False, Spec("image", "BYTES", (ANY,)), outputs, ("probabilities",))


def _of_crops(name: str, network: Network) -> Face:
    size = network.manifest.input
    given = Spec("pixels", "UINT8", (ANY, size.height, size.width, size.channels))
    shape = (ANY, network.classes)
    outputs = (Spec("probabilities", "FP32", shape), Spec("logits", "FP32", shape))
    return Face(name, network, True, given, outputs, ("probabilities", "logits"))


def _platform(model: Answerer) -> str:
    return ENSEMBLE_PLATFORM if isinstance(model, Ensemble) else PLATFORM


def _tensor(spec: Spec, skip: int) -> dict[str, Any]:
    dims = list(spec.shape[skip:])
    return {"name": spec.name, "data_type": _TYPES[spec.datatype], "dims": dims}


def _labels(face: Face) -> str:
    """The labels' file, where the outputs' columns are classes."""
    return face.model.manifest.labels if face.crops and isinstance(face.model, Network) else ""


def _most_crops(plane: DataPlane, face: Face) -> int:
    settings = plane.settings
    _, height, width, channels = face.input.shape
    fit = settings.max_body_bytes // (height * width * channels)
    return max(1, min(settings.queue_crops, fit))


def _facts(model: Answerer) -> dict[str, str]:
    facts = {"classes": str(model.classes)}
    if isinstance(model, Ensemble):
        return {**facts, "protocols": PROTOCOL_NAME, "default_protocol": PROTOCOL_NAME}
    protocols = model.manifest.protocols
    return {
        **facts,
        "network": model.manifest.network,
        "protocols": ",".join(protocols.names),
        "default_protocol": protocols.default,
    }
