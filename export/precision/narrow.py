"""Turn parts of a graph into 16-bit floats, with casts where they meet the rest."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

WEIGHTED = ("Conv", "Gemm", "MatMul")
KEPT = (
    *("Softmax", "LogSoftmax", "LRN"),
    *("Cast", "Constant", "ConstantOfShape", "Resize", "Loop", "If"),
)
"""Operators that stay: they sum powers or squares, or their types have another meaning."""
_HIGHEST = 65504.0
"""The largest half."""


class Kind(NamedTuple):
    """A type of 16 bits."""

    name: str
    onnx: int
    """Its number in TensorProto.DataType."""
    rounded: Callable[[Any], bytes]
    """float32 values -> the little-endian bytes of their nearest values of this type."""


def _half(values: Any) -> bytes:
    return bytes(np.clip(values, -_HIGHEST, _HIGHEST).astype("<f2").tobytes())


def _brain(values: Any) -> bytes:
    bits = torch.from_numpy(np.array(values)).bfloat16().view(torch.int16).numpy()
    return bytes(bits.astype("<i2").tobytes())


HALF = Kind("half", TensorProto.FLOAT16, _half)
BFLOAT16 = Kind("bfloat16", TensorProto.BFLOAT16, _brain)


def narrow(model: onnx.ModelProto, kind: Kind, kept: Collection[str]) -> onnx.ModelProto:
    """Return ``model`` in ``kind``, except for the nodes ``kept``.

    In single precision stay also the normalisation of the pixels and the operators `KEPT`, and
    inputs and outputs have the types that they had.
    """
    return _Narrowed(model, kind, {*until_weights(model), *kept}).model


class _Narrowed:
    """Puts casts where a node in one precision reads what a node in the other yields."""

    def __init__(self, model: onnx.ModelProto, kind: Kind, kept: set[str]) -> None:
        self._kind = kind
        self.model = onnx.ModelProto()
        self.model.CopyFrom(model)
        graph = self.model.graph
        self._single = floats(model)
        self._narrow: set[str] = set()
        self._constants = {
            t.name: t for t in model.graph.initializer if t.data_type == TensorProto.FLOAT
        }
        self._nodes: list[onnx.NodeProto] = []
        self._made: set[str] = set()
        results = {output.name for output in graph.output}
        for node in model.graph.node:
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            narrow = node.op_type not in KEPT and node.name not in kept
            for index, name in enumerate(node.input):
                copy.input[index] = self._as(name, narrow=narrow)
            self._nodes.append(copy)
            if not narrow:
                continue
            for index, name in enumerate(node.output):
                if name not in self._single:
                    continue
                self._narrow.add(name)
                if name in results:
                    copy.output[index] = f"{name}_{self._kind.name}"
                    self._made.add(f"{name}_{self._kind.name}")
                    self._cast(f"{name}_{self._kind.name}", name, TensorProto.FLOAT)
                    self._narrow.discard(name)
        del graph.node[:]
        graph.node.extend(self._nodes)
        used = {name for node in graph.node for name in node.input}
        left = [tensor for tensor in graph.initializer if tensor.name in used]
        del graph.initializer[:]
        graph.initializer.extend(left)

    def _as(self, name: str, *, narrow: bool) -> str:
        """Return the name under which a node of that precision reads ``name``."""
        if name in self._constants:
            return self._constant(name) if narrow else name
        if name not in self._single or (name in self._narrow) == narrow:
            return name
        other = f"{name}_{self._kind.name}" if narrow else f"{name}_single"
        if other not in self._made:
            self._made.add(other)
            self._cast(name, other, self._kind.onnx if narrow else TensorProto.FLOAT)
        return other

    def _constant(self, name: str) -> str:
        other = f"{name}_{self._kind.name}"
        if other not in self._made:
            self._made.add(other)
            value = numpy_helper.to_array(self._constants[name])
            data = self._kind.rounded(value)
            tensor = helper.make_tensor(other, self._kind.onnx, value.shape, data, raw=True)
            self.model.graph.initializer.append(tensor)
        return other

    def _cast(self, name: str, other: str, kind: int) -> None:
        self._nodes.append(helper.make_node("Cast", [name], [other], name=f"{other}_cast", to=kind))


def until_weights(model: onnx.ModelProto) -> set[str]:
    """Return the nodes between the pixels and the first layer."""
    reached = {entry.name for entry in model.graph.input}
    found = set()
    for node in model.graph.node:
        if reached & set(node.input):
            if node.op_type in WEIGHTED:
                break
            found.add(node.name)
            reached.update(node.output)
    return found


def floats(model: onnx.ModelProto) -> set[str]:
    """Return the names of the activations in single precision."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    return {
        value.name
        for value in (*graph.value_info, *graph.output)
        if value.type.tensor_type.elem_type == TensorProto.FLOAT
    }
