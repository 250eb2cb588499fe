"""Answers an inference request of the protocol by a call of the data plane."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from time import perf_counter
from typing import cast

import numpy as np
import numpy.typing as npt

from service.dataplane.dataplane import DataPlane
from service.dataplane.query import Query, default_top_k
from service.dataplane.results import Classification, Inference, Prediction, top_predictions
from service.dataplane.retry import Patience
from service.errors import BadParameter, Internal
from service.manifest import Label
from service.telemetry.request_metrics import Reading
from service.transports.oip import faces
from service.transports.oip.codecs import is_long_to_decode, needs_decoding, pictures_or_pixels
from service.transports.oip.faces import Face
from service.transports.oip.parameters import Options, RequestedOutput, Value, options
from service.transports.oip.tensors import LONG_VALUES, Elements, Tensor, from_binary

MOST_ID_BYTES = 256


@dataclass(frozen=True, slots=True)
class Request:
    """What a client sent, as the transport read it; not yet checked against the model."""

    model: str
    version: str | None
    id: str = ""
    parameters: dict[str, Value] = field(default_factory=dict)
    inputs: Sequence[Tensor] = ()
    outputs: Sequence[RequestedOutput] = ()
    """The requested outputs; where empty, those that the metadata lists."""
    raw: bytes | None = None
    """Takes the place of ``inputs``: the data of the only input, whose length gives its shape."""


@dataclass(frozen=True, slots=True)
class Response:
    """The answer to a request."""

    model: str
    version: str
    id: str
    outputs: list[Tensor]
    binary: list[bool]
    """For each output, whether the client wants it in binary; gRPC ignores this."""
    final_response: bool


@dataclass(frozen=True, slots=True)
class _Work:
    """A request that has been checked against its model."""

    face: Face
    options: Options
    tensor: Tensor
    outputs: Sequence[RequestedOutput]
    top_k: int
    """How many classes NAME.topk answers."""
    deadline: float


async def infer(
    plane: DataPlane,
    request: Request,
    *,
    transport: str,
    deadline: float,
    patience: Patience | None = None,
) -> Response:
    """Answer a request before ``deadline`` (``time.perf_counter``), or its own ``timeout``.

    A picture that cannot be classified fails the whole request, because the protocol has no error
    for a single element. Raises ZooError: BadParameter for tensors or parameters that the model
    does not have, and all that `DataPlane.classify` and `DataPlane.infer` raise.
    """
    with Reading(transport, asyncio.CancelledError):
        work = await _checked_request(plane, request, deadline)
    face = work.face
    query = Query(face.model.name, request.version)
    if face.kind == "tensor":
        crops = cast("npt.NDArray[np.uint8]", work.tensor.data)
        inferred = await plane.infer(
            crops, query, transport=transport, deadline=work.deadline, patience=patience
        )
        version, writing = inferred.version, partial(_of_crops, inferred, work.outputs)
    else:
        answers = await _classified(plane, work, query, transport, patience)
        making = _of_the_best if face.kind == "topk" else _of_pictures
        version, writing = answers[0].version, partial(making, answers, work)
    if _values(work) > LONG_VALUES:
        outputs = await plane.offload.run(writing, work.deadline)
    else:
        outputs = writing()
    binary = [work.options.binary if each.binary is None else each.binary for each in work.outputs]
    return Response(
        request.model, version, request.id, outputs, binary, work.options.final_response
    )


async def _classified(
    plane: DataPlane, work: _Work, query: Query, transport: str, patience: Patience | None
) -> list[Classification]:
    most = max(each.classification or 1 for each in work.outputs)
    query = query._replace(
        protocol=work.options.protocol,
        top_k=max(work.top_k, most) if work.face.kind == "topk" else 1,
        exif=work.options.exif,
        vectors=work.face.kind == "image",
    )
    return await plane.classify_all(
        cast(Elements, work.tensor.data),
        query,
        transport=transport,
        deadline=work.deadline,
        patience=patience,
    )


def _values(work: _Work) -> int:
    """Return how many values of the answer Python makes one by one."""
    rows = work.tensor.shape[0]
    return rows * sum(each.classification or work.top_k for each in work.outputs)


async def _checked_request(plane: DataPlane, request: Request, deadline: float) -> _Work:
    """Check a request against its model and decode its input. Raises ZooError."""
    if len(request.id.encode()) > MOST_ID_BYTES:
        raise BadParameter(f"id has more than {MOST_ID_BYTES} bytes")
    face = await faces.find(plane, request.model, request.version)
    chosen = options(request.parameters, face.kind)
    outputs = request.outputs or [RequestedOutput(spec.name) for spec in face.outputs]
    outputs = [_checked(face, each) for each in outputs]
    if len({each.name for each in outputs}) < len(outputs):
        raise BadParameter("an output is requested twice")
    if face.kind == "image" and any(each.name == "logits" for each in outputs):
        _check_logits(face, chosen.protocol)
    if chosen.timeout_s is not None:
        deadline = min(deadline, perf_counter() + chosen.timeout_s)
    tensor = _input(face, request)
    if needs_decoding(tensor):
        decoding = partial(pictures_or_pixels, tensor)
        is_long = is_long_to_decode(tensor)
        tensor = await plane.offload.run(decoding, deadline) if is_long else decoding()
    top_k = 0
    if face.kind == "topk":
        top_k = chosen.top_k or default_top_k(face.model.classes)
    return _Work(face, chosen, tensor, outputs, top_k, deadline)


def _input(face: Face, request: Request) -> Tensor:
    spec = face.input
    if request.raw is not None:
        return _from_raw(face, request.raw)
    names = [tensor.name for tensor in request.inputs]
    if names != [spec.name]:
        shown = ", ".join(repr(name[:64]) for name in names[:4]) or "none"
        raise BadParameter(f"model {face.name!r} takes one input, {spec.name!r}, not {shown}")
    tensor = request.inputs[0]
    if tensor.datatype != spec.datatype and (face.kind, tensor.datatype) != ("tensor", "FP32"):
        raise BadParameter(
            f"the input {spec.name!r} is {spec.datatype}, not {tensor.datatype[:16]!r}"
        )
    shape = tensor.shape
    if spec == faces.IMAGE and len(shape) == 1:
        shape = (*shape, 1)
    fits = len(shape) == len(spec.shape) and all(
        want in (faces.ANY, have) for have, want in zip(shape, spec.shape, strict=True)
    )
    if not fits or not shape[0]:
        raise BadParameter(
            f"the input {spec.name!r} has the shape {list(spec.shape)} with -1 from 1 on, "
            f"not {list(tensor.shape)}"
        )
    return tensor


def _from_raw(face: Face, raw: bytes) -> Tensor:
    spec = face.input
    if face.kind != "tensor":
        return Tensor(spec.name, spec.datatype, (1,), [raw])
    crop = spec.shape[1:]
    size = math.prod(crop)
    if not raw or len(raw) % size:
        raise BadParameter(f"the body has {len(raw)} bytes, crops of {list(crop)} have {size} each")
    return from_binary(spec.name, spec.datatype, (len(raw) // size, *crop), raw)


def _checked(face: Face, requested: RequestedOutput) -> RequestedOutput:
    """Check a requested output against the face, and cut its number of classes to what there is.

    Raises BadParameter.
    """
    known = [spec.name for spec in (*face.outputs, *face.further)]
    name = requested.name
    if name not in known:
        other = ""
        if face.kind == "image" and name in ("scores", "indices", "labels"):
            other = f"; {face.name}{faces.SUFFIXES['topk']} gives the best classes, sorted"
        raise BadParameter(
            f"model {face.name!r} has no output {name[:64]!r}; it has: {', '.join(known)}{other}"
        )
    if requested.classification is None:
        return requested
    if name not in face.classifiable:
        raise BadParameter(
            f"classification goes with {' and '.join(face.classifiable)}, not {name!r}"
        )
    return replace(requested, classification=min(requested.classification, face.model.classes))


def _check_logits(face: Face, protocol: str | None) -> None:
    """Raise BadParameter where a protocol cuts several crops, because only one crop has logits."""
    plan = face.model.plan(protocol)
    if plan.crops > 1:
        raise _no_logits(plan.protocol)


def _no_logits(protocol: str) -> BadParameter:
    return BadParameter(
        f"logits are of one crop, and protocol {protocol!r} cuts several of a picture; "
        f"NAME{faces.SUFFIXES['tensor']} gives those of crops"
    )


def _of_pictures(answers: Sequence[Classification], work: _Work) -> list[Tensor]:
    """Make the outputs of NAME: vectors in the order of the classes."""
    vectors = [answer.vectors for answer in answers if answer.vectors is not None]
    tensors = []
    for each in work.outputs:
        rows = [getattr(one, each.name) for one in vectors]
        if any(row is None for row in rows):  # a version that superseded the checked one answered
            raise _no_logits(answers[0].protocol)
        tensors.append(_of_vectors(np.stack(rows), vectors[0].labels, each))
    return tensors


def _of_the_best(answers: Sequence[Classification], work: _Work) -> list[Tensor]:
    """Make the outputs of NAME.topk: the best classes, sorted."""
    rows = [answer.predictions[: work.top_k] for answer in answers]
    shape = (len(rows), work.top_k)
    tensors = []
    for each in work.outputs:
        if each.classification is not None:
            best = (p for answer in answers for p in answer.predictions[: each.classification])
            texts = [_text(p.probability, p.index, p.label) for p in best]
            tensor = Tensor(each.name, "BYTES", (len(rows), each.classification), texts)
        elif each.name == "labels":
            labels: Elements = [p.label.name.encode() for row in rows for p in row]
            tensor = Tensor(each.name, "BYTES", shape, labels)
        elif each.name == "indices":
            indices = np.array([[p.index for p in row] for row in rows], np.int64)
            tensor = Tensor(each.name, "INT64", shape, indices)
        else:
            values = np.array([[p.probability for p in row] for row in rows], np.float32)
            tensor = Tensor(each.name, "FP32", shape, values)
        tensors.append(tensor)
    return tensors


def _of_crops(inferred: Inference, outputs: Sequence[RequestedOutput]) -> list[Tensor]:
    """Make the outputs of NAME.tensor: vectors in the order of the classes."""
    return [
        _of_vectors(getattr(inferred.outputs, each.name), inferred.labels, each) for each in outputs
    ]


def _of_vectors(
    values: npt.NDArray[np.float32], labels: Sequence[Label], requested: RequestedOutput
) -> Tensor:
    """Make an output of float32 [N, classes], or of its best classes as text."""
    name, most = requested.name, requested.classification
    if most is None:
        return Tensor(name, "FP32", values.shape, values)
    try:
        best: list[list[Prediction]] = [top_predictions(row, labels, most) for row in values]
    except ArithmeticError as error:
        raise Internal(f"the network gave no finite {name} for these crops") from error
    texts = [_text(p.probability, p.index, p.label) for row in best for p in row]
    return Tensor(name, "BYTES", (len(values), most), texts)


def _text(value: float, index: int, label: Label) -> bytes:
    """Write a class as Triton's classification extension does: value:index:label."""
    return f"{value:f}:{index}:{label.name}".encode()
