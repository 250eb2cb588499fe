"""Shows each model under up to three names, its faces: NAME, NAME.topk and NAME.tensor.

NAME and NAME.topk take encoded pictures, NAME.tensor ready-made crops. NAME and NAME.tensor answer
one vector of probabilities in the order of the classes, as clients of other servers expect;
NAME.topk answers the best classes, sorted. No model's name holds a dot
(`service.manifest.ModelName`), so a suffix is never part of one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

from service.dataplane.dataplane import DataPlane
from service.errors import UnknownModel
from service.repository.descriptions import protocols_of
from service.repository.ensemble import Answerer
from service.repository.network import Network
from service.transports.oip.answers import OipConfig, OipConfigTensor, OipModel, OipTensor

Kind: TypeAlias = Literal["image", "topk", "tensor"]
SUFFIXES: dict[Kind, str] = {"image": "", "topk": ".topk", "tensor": ".tensor"}
"""What is appended to the model's name."""
PLATFORMS = {"network": "onnxruntime_onnx", "ensemble": "ensemble"}
BACKENDS = {"network": "onnxruntime", "ensemble": ""}
"""By kind of model, in Triton's words."""
MOST_NAME = 128
"""A longer name, in characters, is not even looked up."""
ANY = -1
"""Stands in a shape for a dimension of any size."""
_BESIDE_TENSORS = 4096
"""Bytes reserved in a body for the names, shapes and parameters beside its crops."""

_TYPES = {"BYTES": "TYPE_STRING", "UINT8": "TYPE_UINT8", "INT64": "TYPE_INT64", "FP32": "TYPE_FP32"}
"""The names of our datatypes in model_config.proto."""


@dataclass(frozen=True, slots=True)
class Spec:
    """An input or output: its name, datatype and shape, with `ANY` for dimensions of any size."""

    name: str
    datatype: str
    shape: tuple[int, ...]

    def metadata(self) -> OipTensor:
        """Return it in the form in which model metadata lists it."""
        return {"name": self.name, "datatype": self.datatype, "shape": list(self.shape)}


@dataclass(frozen=True, slots=True)
class Face:
    """A version of a model under one of its names."""

    name: str
    """The name that the client used, with its suffix."""
    model: Answerer
    """Always a network where ``kind`` is `tensor`."""
    kind: Kind
    input: Spec
    outputs: tuple[Spec, ...]
    """The outputs that the metadata lists; a request that names none gets these."""
    further: tuple[Spec, ...] = ()
    """Outputs that a request gets only if it names them."""
    classifiable: tuple[str, ...] = ()
    """The outputs that Triton's classification extension can turn into text."""


def base(name: str) -> str:
    """Return the model's name in a face's name. Raises UnknownModel for what cannot be a name."""
    return _parts(name)[0]


def _parts(name: str) -> tuple[str, Kind]:
    if not 1 <= len(name) <= MOST_NAME:
        raise UnknownModel(f"a model's name has 1 to {MOST_NAME} characters")
    for kind, suffix in SUFFIXES.items():
        if suffix and name.endswith(suffix):
            return name.removesuffix(suffix), kind
    return name, "image"


async def find(plane: DataPlane, name: str, version: str | None) -> Face:
    """Return the face of this name for a version, or for the one that answers, loaded or not.

    Raises UnknownModel, also for the tensor face of an ensemble, and NotReady where the version
    was refused.
    """
    if version is not None and len(version) > MOST_NAME:
        raise UnknownModel(f"a version has at most {MOST_NAME} characters")
    model_name, kind = _parts(name)
    model = await plane.model(model_name, version)
    if kind == "image":
        return _of_vectors(name, model, kind, IMAGE)
    if kind == "topk":
        return _of_the_best(name, model)
    if not isinstance(model, Network):
        raise UnknownModel(
            f"there is no model {name!r}: the networks of an ensemble take crops of their own"
        )
    return _of_vectors(name, model, kind, Spec("pixels", "UINT8", (ANY, *model.crop)))


def names(plane: DataPlane, name: str, version: str) -> list[str]:
    """Return the names of all faces of one version; a refused version has only the first."""
    for model in plane.versions_here(name):
        if model.version == version and model.state != "refused":
            takes_crops = isinstance(model, Network)
            return [name + SUFFIXES[kind] for kind in SUFFIXES if kind != "tensor" or takes_crops]
    return [name]


def metadata(plane: DataPlane, face: Face) -> OipModel:
    """Return what GET /v2/models/{name} and ModelMetadata answer."""
    versions = plane.versions_here(face.model.name)
    return {
        "name": face.name,
        "versions": [model.version for model in versions if model.state != "refused"],
        "platform": PLATFORMS[face.model.describe()["kind"]],
        "inputs": [face.input.metadata()],
        "outputs": [spec.metadata() for spec in face.outputs],
    }


def config(plane: DataPlane, face: Face) -> OipConfig:
    """Return Triton's ModelConfig in its JSON form.

    ``max_batch_size`` is how many pictures or crops one request may hold. The batches that a
    session runs hold crops of many requests, and their size is learnt at load.
    """
    format_ = "FORMAT_NHWC" if face.kind == "tensor" else "FORMAT_NONE"
    model = face.model.describe()
    network = face.model if isinstance(face.model, Network) else None
    # the columns of the best classes are not classes
    labels = network.manifest.labels if network and face.kind != "topk" else ""
    found: OipConfig = {
        "name": face.name,
        "platform": PLATFORMS[model["kind"]],
        "backend": BACKENDS[model["kind"]],
        "version_policy": {"all": {}},
        "max_batch_size": _most(plane, face),
        "input": [{**_tensor(face.input), "format": format_}],
        "output": [{**_tensor(spec), "label_filename": labels} for spec in face.outputs],
        "parameters": {key: {"string_value": value} for key, value in _facts(face.model).items()},
    }
    if network:
        found["dynamic_batching"] = {}
    return found


IMAGE = Spec("image", "BYTES", (ANY, 1))
"""One encoded picture per element. A request may leave out the second dimension."""


def _of_vectors(name: str, model: Answerer, kind: Kind, input_: Spec) -> Face:
    vector = (ANY, model.classes)
    return Face(
        name,
        model,
        kind,
        input_,
        outputs=(Spec("probabilities", "FP32", vector),),
        further=(Spec("logits", "FP32", vector),),
        classifiable=("probabilities", "logits"),
    )


def _of_the_best(name: str, model: Answerer) -> Face:
    sorted_ = (ANY, ANY)
    outputs = (
        Spec("scores", "FP32", sorted_),
        Spec("indices", "INT64", sorted_),
        Spec("labels", "BYTES", sorted_),
    )
    return Face(name, model, "topk", IMAGE, outputs, classifiable=("scores",))


def _tensor(spec: Spec) -> OipConfigTensor:
    """Return a tensor as ModelConfig lists it: without the first dimension, the batch."""
    dims = list(spec.shape[1:])
    return {"name": spec.name, "data_type": _TYPES[spec.datatype], "dims": dims}


def _most(plane: DataPlane, face: Face) -> int:
    """Return how many pictures, or crops in UINT8, one request may hold."""
    settings = plane.settings
    if face.kind != "tensor":
        return settings.max_pictures
    crop = math.prod(face.input.shape[1:])
    room = settings.max_body_bytes - _BESIDE_TENSORS
    return max(1, min(settings.queue_crops, room // crop))


def _facts(model: Answerer) -> dict[str, str]:
    found = model.describe()
    return {
        "classes": str(model.classes),
        **({"network": found["network"]} if found["kind"] == "network" else {}),
        "protocols": ",".join(protocols_of(found)),
        "default_protocol": found["protocol"],
    }
