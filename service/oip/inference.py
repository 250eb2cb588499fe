"""A request of the protocol, answered by the data plane."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter
from typing import cast

import numpy as np
import numpy.typing as npt

from service.answers import Classification, Inference, Prediction, top_predictions
from service.dataplane import DataPlane
from service.errors import BadParameter, Internal, ZooError
from service.oip import faces
from service.oip.faces import Face
from service.oip.parameters import Options, Value, Wanted, options
from service.oip.tensors import LONG_VALUES, Elements, Tensor, from_binary
from service.parts import Patience
from service.query import Query
from service.repository import Label

MOST_ID_BYTES = 256


@dataclass(frozen=True, slots=True)
class Request:
    """What a client sent, read but not yet understood."""

    model: str
    version: str | None
    id: str = ""
    parameters: dict[str, Value] = field(default_factory=dict)
    inputs: Sequence[Tensor] = ()
    outputs: Sequence[Wanted] = ()
    """Empty: all."""
    raw: bytes | None = None
    """Instead of inputs: the data of the only one, whose shape follows from its length."""


@dataclass(frozen=True, slots=True)
class Response:
    """The answer to a request."""

    model: str
    version: str
    id: str
    outputs: list[Tensor]
    binary: list[bool]
    """Whether the client wants each output in binary, where it can choose."""
    final_response: bool


@dataclass(frozen=True, slots=True)
class _Work:
    """A request that has been understood."""

    face: Face
    options: Options
    tensor: Tensor
    outputs: Sequence[Wanted]
    deadline: float


async def infer(
    plane: DataPlane,
    request: Request,
    *,
    transport: str,
    deadline: float,
    patience: Patience | None = None,
) -> Response:
    """Answer before ``deadline`` (``time.perf_counter``), or the request's own ``timeout``.

    A picture that cannot be classified fails the whole request: the protocol has no answer for
    one alone. Raises ZooError: BadParameter for tensors or parameters that are not the model's,
    and all that `DataPlane.classify` and `DataPlane.infer` raise.
    """
    try:
        work = await _understood(plane, request, deadline)
    except ZooError as error:
        plane.refused(transport, error.code)
        raise
    face = work.face
    query = Query(face.model.name, request.version)
    if face.crops:
        crops = cast("npt.NDArray[np.uint8]", work.tensor.data)
        inferred = await plane.infer(
            crops, query, transport=transport, deadline=work.deadline, patience=patience
        )
        version, writing = inferred.version, partial(_of_crops, inferred, work.outputs)
    else:
        answers = await _classified(plane, work, query, transport, patience)
        version, writing = answers[0].version, partial(_of_pictures, answers, work)
    if _values(work) > LONG_VALUES:
        outputs = await plane.aside.run(writing, work.deadline)
    else:
        outputs = writing()
    binary = [work.options.binary if each.binary is None else each.binary for each in work.outputs]
    return Response(
        request.model, version, request.id, outputs, binary, work.options.final_response
    )


async def _classified(
    plane: DataPlane, work: _Work, query: Query, transport: str, patience: Patience | None
) -> list[Classification]:
    asked = work.options
    most = max(each.classification or 0 for each in work.outputs)
    query = query._replace(protocol=asked.protocol, top_k=max(asked.top_k, most), exif=asked.exif)
    answers = await plane.classify(
        cast(Elements, work.tensor.data),
        query,
        transport=transport,
        deadline=work.deadline,
        patience=patience,
        whole=True,
    )
    return cast("list[Classification]", answers)


def _values(work: _Work) -> int:
    """How many values of the answer are made one by one."""
    rows = work.tensor.shape[0]
    return rows * sum(
        each.classification or (0 if work.face.crops else work.options.top_k)
        for each in work.outputs
    )


async def _understood(plane: DataPlane, request: Request, deadline: float) -> _Work:
    if len(request.id.encode()) > MOST_ID_BYTES:
        raise BadParameter(f"id has more than {MOST_ID_BYTES} bytes")
    face = await faces.find(plane, request.model, request.version)
    asked = options(request.parameters, crops=face.crops, classes=face.model.classes)
    outputs = request.outputs or [Wanted(spec.name) for spec in face.outputs]
    _check_outputs(face, outputs)
    if asked.timeout_s is not None:
        deadline = min(deadline, perf_counter() + asked.timeout_s)
    return _Work(face, asked, _input(face, request), outputs, deadline)


def _input(face: Face, request: Request) -> Tensor:
    spec = face.input
    if request.raw is not None:
        return _from_raw(face, request.raw)
    names = [tensor.name for tensor in request.inputs]
    if names != [spec.name]:
        shown = ", ".join(repr(name[:64]) for name in names[:4]) or "none"
        raise BadParameter(f"model {face.name!r} takes one input, {spec.name!r}, not {shown}")
    tensor = request.inputs[0]
    if tensor.datatype != spec.datatype:
        raise BadParameter(
            f"the input {spec.name!r} is {spec.datatype}, not {tensor.datatype[:16]!r}"
        )
    fits = len(tensor.shape) == len(spec.shape) and all(
        want in (faces.ANY, have) for have, want in zip(tensor.shape, spec.shape, strict=True)
    )
    if not fits or not tensor.shape[0]:
        raise BadParameter(
            f"the input {spec.name!r} has the shape {list(spec.shape)} with -1 from 1 on, "
            f"not {list(tensor.shape)}"
        )
    return tensor


def _from_raw(face: Face, raw: bytes) -> Tensor:
    spec = face.input
    if not face.crops:
        return Tensor(spec.name, spec.datatype, (1,), [raw])
    crop = spec.shape[1:]
    size = math.prod(crop)
    if not raw or len(raw) % size:
        raise BadParameter(f"the body has {len(raw)} bytes, crops of {list(crop)} have {size} each")
    return from_binary(spec.name, spec.datatype, (len(raw) // size, *crop), raw)


def _check_outputs(face: Face, outputs: Sequence[Wanted]) -> None:
    known = [spec.name for spec in face.outputs]
    names = [each.name for each in outputs]
    for each in outputs:
        if each.name not in known:
            raise BadParameter(
                f"model {face.name!r} has no output {each.name[:64]!r}; it has: {', '.join(known)}"
            )
        if names.count(each.name) > 1:
            raise BadParameter(f"the output {each.name!r} is requested twice")
        if each.classification is None:
            continue
        if each.name not in face.classifiable:
            raise BadParameter(
                f"classification goes with {' and '.join(face.classifiable)}, not {each.name!r}"
            )
        if each.classification > face.model.classes:
            raise BadParameter(
                f"classification is {each.classification}, model {face.model.name!r} has "
                f"{face.model.classes} classes"
            )


def _of_pictures(answers: Sequence[Classification], work: _Work) -> list[Tensor]:
    top_k = work.options.top_k
    rows = [answer.predictions[:top_k] for answer in answers]
    shape = (len(rows), top_k)
    tensors = []
    for each in work.outputs:
        if each.classification is not None:
            texts = [
                _text(p.probability, p.index, p.label)
                for answer in answers
                for p in answer.predictions[: each.classification]
            ]
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


def _of_crops(inferred: Inference, outputs: Sequence[Wanted]) -> list[Tensor]:
    tensors = []
    for each in outputs:
        values: npt.NDArray[np.float32] = getattr(inferred.outputs, each.name)
        if each.classification is None:
            tensors.append(Tensor(each.name, "FP32", values.shape, values))
            continue
        try:
            best: list[list[Prediction]] = [
                top_predictions(row, inferred.labels, each.classification) for row in values
            ]
        except ArithmeticError as error:
            raise Internal(f"the network gave no finite {each.name} for these crops") from error
        texts = [_text(p.probability, p.index, p.label) for row in best for p in row]
        tensors.append(Tensor(each.name, "BYTES", (len(values), each.classification), texts))
    return tensors


def _text(value: float, index: int, label: Label) -> bytes:
    """A class as Triton's classification extension writes it."""
    return f"{value:f}:{index}:{label.name}".encode()
