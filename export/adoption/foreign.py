"""Read a foreign ONNX file without trust: its graph, its input and its output."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import onnx
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, inliner, numpy_helper

from export.adoption import external, file_kind, operators, order
from export.errors import ForeignModelRefused

MIN_OPSET = 7
"""Older operators broadcast by an attribute; ONNX Runtime does not run them either."""
MAX_SIDE = 4096
"""Most pixels of a crop's side."""
IR_VERSION = 10
"""The version of the file format that exporters write for opset 20."""

Layout = Literal["nchw", "nhwc"]
Activation = Literal["softmax", "sigmoid"]
"""softmax: one class is right for a picture; sigmoid: any number of classes may be."""

_PICTURES: dict[int, npt.DTypeLike] = {
    TensorProto.FLOAT: np.float32,
    TensorProto.FLOAT16: np.float16,
    TensorProto.DOUBLE: np.float64,
    TensorProto.UINT8: np.uint8,
}
_DEFAULT_DOMAINS = ("", "ai.onnx")


@dataclass(frozen=True)
class Wishes:
    """What the user says where the file does not."""

    size: int | None = None
    """Height and width of the crops, for a network that takes any."""
    layout: Layout | None = None
    take: str | None = None
    """Name of the output to take where there are several."""
    activation: Activation | None = None
    """What makes probabilities of the output, where the file does not do it itself."""


@dataclass(frozen=True)
class Signature:
    """The input and the output of a foreign network."""

    input: str
    type: int
    """Element type of the input, as TensorProto numbers it."""
    layout: Layout
    batch: int | None
    """The batch size that the graph is fixed to, or None where it takes any."""
    height: int
    width: int
    channels: int
    output: str

    @property
    def dtype(self) -> npt.DTypeLike:
        """The numpy type of the input."""
        return _PICTURES[self.type]

    @property
    def sizes(self) -> tuple[int, int, int]:
        """The dimensions behind the batch: (C, H, W) or (H, W, C)."""
        if self.layout == "nchw":
            return self.channels, self.height, self.width
        return self.height, self.width, self.channels


@dataclass(frozen=True)
class Foreign:
    """A foreign classifier as it was read."""

    file: Path
    model: ModelProto
    """With all weights inside, functions inlined, and one input: the pictures."""
    signature: Signature
    opset: int
    external_data: tuple[Path, ...]
    reordered: bool = False
    """Whether its nodes had to be sorted: some stood before what they read."""

    @property
    def operators(self) -> set[str]:
        """The operators of the graph and its subgraphs, without their domains."""
        return {node.op_type for node in nodes(self.model.graph)}

    @property
    def precision(self) -> Literal["fp32", "fp16", "int8"]:
        """int8 where anything is quantised, fp16 where weights are halves, else fp32."""
        if any("Quantize" in op or "QLinear" in op or "Integer" in op for op in self.operators):
            return "int8"
        return "fp16" if _has_halves(self.model) else "fp32"

    @property
    def halves(self) -> bool:
        """Whether anything is rounded to half precision: weights, the input or the output."""
        (output,) = (o for o in self.model.graph.output if o.name == self.signature.output)
        ends = (self.signature.type, output.type.tensor_type.elem_type)
        return TensorProto.FLOAT16 in ends or _has_halves(self.model)


def read(file: Path, wishes: Wishes) -> Foreign:
    """Read and examine an ONNX file; nothing but it and files of its folder is opened.

    Raises ForeignModelRefused, with what the file is or what it lacks, where it is no classifier.
    """
    model = _parse(file)
    opset = opset_of(model)
    if opset < MIN_OPSET:
        raise ForeignModelRefused(
            f"{file.name} has opset {opset}: {MIN_OPSET} is the least that can be adopted"
        )
    outside = external.embed(model, file.parent)
    if model.functions:
        model = inliner.inline_local_functions(model)
    del model.training_info[:]
    _drop_weights_from_inputs(model)
    reordered = order.sort(model.graph)
    operators.refuse_maps(model)
    signature = _signature(model, wishes)
    operators.refuse(model, signature.output)
    return Foreign(file, model, signature, opset, outside, reordered)


def opset_of(model: ModelProto) -> int:
    """Return the version of ONNX's own operators that a model uses; 0 where it imports none."""
    versions = [o.version for o in model.opset_import if o.domain in _DEFAULT_DOMAINS]
    return max(versions, default=0)


def nodes(graph: onnx.GraphProto) -> list[NodeProto]:
    """Return the nodes of a graph and of its subgraphs."""
    found = []
    for node in graph.node:
        found.append(node)
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                found += nodes(inner)
    return found


def weights(model: ModelProto) -> list[TensorProto]:
    """Return the constant tensors of a model: initialisers, and values of Constant nodes."""
    constants = [
        attribute.t
        for node in nodes(model.graph)
        if node.op_type == "Constant"
        for attribute in node.attribute
        if attribute.name == "value"
    ]
    return [*model.graph.initializer, *constants]


def constants(graph: onnx.GraphProto) -> dict[str, npt.NDArray[np.generic]]:
    """Return the short constants of a graph (axes, shapes, scales) by name."""
    short = {t.name: t for t in graph.initializer if len(t.dims) <= 1 and sum(t.dims) <= 64}
    for node in graph.node:
        if node.op_type == "Constant":
            for attribute in node.attribute:
                if attribute.name == "value" and len(attribute.t.dims) <= 1:
                    short[node.output[0]] = attribute.t
    return {name: numpy_helper.to_array(tensor) for name, tensor in short.items()}


def _has_halves(model: ModelProto) -> bool:
    return any(tensor.data_type == TensorProto.FLOAT16 for tensor in weights(model))


def parameters(model: ModelProto) -> int:
    """Count the trained numbers of a model: those of float tensors and of 8-bit matrices."""
    floats = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16}
    bytes_ = {TensorProto.INT8, TensorProto.UINT8}
    return sum(
        int(np.prod(tensor.dims, dtype=np.int64))
        for tensor in weights(model)
        if tensor.data_type in floats or (tensor.data_type in bytes_ and len(tensor.dims) > 1)
    )


def _parse(file: Path) -> ModelProto:
    try:
        if not file.is_file():
            raise ForeignModelRefused(f"no such file: {file}")
        if file.stat().st_size > external.MAX_BYTES:
            raise ForeignModelRefused(f"{file.name} is larger than {external.MAX_BYTES} bytes")
        data = file.read_bytes()
    except OSError as error:
        raise ForeignModelRefused(f"cannot read {file}: {error.strerror}") from error
    model = ModelProto()
    kind = file_kind.name(data, file)
    what = f"{file.name} is no ONNX file" + (f": {kind}" if kind else "")
    try:
        # not onnx.load: it goes by the suffix, and follows external data
        model.ParseFromString(data)
    except Exception as error:  # protobuf's own family
        raise ForeignModelRefused(what) from error
    if not model.graph.node or not model.opset_import:
        raise ForeignModelRefused(what if kind else f"{what}: it has no graph")
    if model.graph.sparse_initializer:
        raise ForeignModelRefused(f"{file.name} has sparse weights, which cannot be adopted")
    return model


def _drop_weights_from_inputs(model: ModelProto) -> None:
    """Take initialisers off the inputs: before IR version 4 all of them had to be listed."""
    constant = {tensor.name for tensor in model.graph.initializer}
    pictures = [value for value in model.graph.input if value.name not in constant]
    del model.graph.input[:]
    model.graph.input.extend(pictures)
    model.ir_version = max(model.ir_version, IR_VERSION)


def _signature(model: ModelProto, wishes: Wishes) -> Signature:
    inputs = list(model.graph.input)
    if len(inputs) != 1:
        names = ", ".join(value.name for value in inputs[:5])
        raise ForeignModelRefused(
            f"it has {len(inputs)} inputs ({names}), a classifier has one: the pictures"
        )
    kind = inputs[0].type.tensor_type.elem_type
    if kind not in _PICTURES:
        name = helper.tensor_dtype_to_string(kind) if kind else "no tensor"
        raise ForeignModelRefused(f"its input {inputs[0].name} is {name}, not pictures")
    dims = _dims(inputs[0])
    layout = _layout(dims, wishes.layout)
    sides = dims[2:] if layout == "nchw" else dims[1:3]
    channels = (dims[1] if layout == "nchw" else dims[3]) or 3
    if channels not in (1, 3):
        raise ForeignModelRefused(f"its input has {channels} channels: 1 and 3 can be served")
    height, width = (_side(side, wishes.size) for side in sides)
    return Signature(
        input=inputs[0].name,
        type=kind,
        layout=layout,
        batch=dims[0],
        height=height,
        width=width,
        channels=channels,
        output=_output(model, wishes.take),
    )


def _dims(value: ValueInfoProto) -> list[int | None]:
    """Return the four dimensions of the input; None where any number goes."""
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        return [None, None, None, None]
    dims = [d.dim_value if d.dim_value > 0 else None for d in tensor.shape.dim]
    if len(dims) != 4:
        shown = ", ".join("?" if dim is None else str(dim) for dim in dims)
        raise ForeignModelRefused(
            f"its input {value.name} is [{shown}]: pictures have four dimensions"
        )
    return dims


def _layout(dims: list[int | None], stated: Layout | None) -> Layout:
    if stated is not None:
        return stated
    first, last = dims[1] in (1, 3), dims[3] in (1, 3)
    if first == last:
        shown = ", ".join("?" if dim is None else str(dim) for dim in dims)
        raise ForeignModelRefused(
            f"its input is [{shown}]: which dimension holds the colours? "
            "--layout nchw or nhwc says it, if these are pictures"
        )
    return "nchw" if first else "nhwc"


def _side(side: int | None, stated: int | None) -> int:
    if side is None and stated is None:
        raise ForeignModelRefused("it takes pictures of any size: --size says which to serve")
    if side is not None and stated not in (None, side):
        raise ForeignModelRefused(f"--size {stated}, but it takes pictures of {side} pixels")
    chosen = side or stated or 0
    if chosen > MAX_SIDE:
        raise ForeignModelRefused(f"pictures of {chosen} pixels: the limit is {MAX_SIDE}")
    return chosen


def _output(model: ModelProto, stated: str | None) -> str:
    names = [value.name for value in model.graph.output]
    shown = ", ".join(names[:5])
    if stated is not None:
        if stated not in names:
            raise ForeignModelRefused(f"it has no output {stated!r}, but {shown}")
        return stated
    if len(names) != 1:
        raise ForeignModelRefused(
            f"it has {len(names)} outputs ({shown}), a classifier has one: --take NAME names it"
        )
    return str(names[0])
