"""A graph in half precision, for GPUs, with the layers kept in single precision that need it."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from export.precision import calibrate
from export.precision.crops import Crops

LARGEST = 8192.0
"""Activations beyond this stay in single precision: an eighth of what a half can hold."""
_HIGHEST = 65504.0
"""The largest half."""
_WEIGHTED = ("Conv", "Gemm", "MatMul")
_KEPT = (
    *("Softmax", "LogSoftmax", "LRN"),
    *("Cast", "Constant", "ConstantOfShape", "Resize", "Loop", "If"),
)
"""Operators that add up powers or squares, and those whose types say something else."""


def convert(model: onnx.ModelProto, crops: Crops) -> tuple[onnx.ModelProto, list[str]]:
    """``model`` in half precision, and the layers that were kept because of ``crops``.

    In single precision stay the normalisation of the pixels, with its means, sums of powers such
    as Softmax, and every layer that takes or yields values beyond ``LARGEST``. The inputs and the
    outputs keep their types.
    """
    large = _large(model, crops)
    half = _Halved(model, kept={*_until_weights(model), *large}).model
    return half, [n.name for n in model.graph.node if n.op_type in _WEIGHTED and n.name in large]


class _Halved:
    """Casts are put where a node in one precision reads what a node in the other yields."""

    def __init__(self, model: onnx.ModelProto, kept: set[str]) -> None:
        self.model = onnx.ModelProto()
        self.model.CopyFrom(model)
        graph = self.model.graph
        self._single = _floats(model)
        self._half: set[str] = set()
        self._constants = {
            t.name: t for t in model.graph.initializer if t.data_type == TensorProto.FLOAT
        }
        self._nodes: list[onnx.NodeProto] = []
        self._made: set[str] = set()
        results = {output.name for output in graph.output}
        for node in model.graph.node:
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            halved = node.op_type not in _KEPT and node.name not in kept
            for index, name in enumerate(node.input):
                copy.input[index] = self._as(name, halved=halved)
            self._nodes.append(copy)
            if not halved:
                continue
            for index, name in enumerate(node.output):
                if name not in self._single:
                    continue
                self._half.add(name)
                if name in results:
                    copy.output[index] = f"{name}_half"
                    self._made.add(f"{name}_half")
                    self._cast(f"{name}_half", name, TensorProto.FLOAT)
                    self._half.discard(name)
        del graph.node[:]
        graph.node.extend(self._nodes)
        used = {name for node in graph.node for name in node.input}
        left = [tensor for tensor in graph.initializer if tensor.name in used]
        del graph.initializer[:]
        graph.initializer.extend(left)

    def _as(self, name: str, *, halved: bool) -> str:
        """The name under which a node of that precision reads ``name``."""
        if name in self._constants:
            return self._constant(name) if halved else name
        if name not in self._single or (name in self._half) == halved:
            return name
        other = f"{name}_half" if halved else f"{name}_single"
        if other not in self._made:
            self._made.add(other)
            self._cast(name, other, TensorProto.FLOAT16 if halved else TensorProto.FLOAT)
        return other

    def _constant(self, name: str) -> str:
        other = f"{name}_half"
        if other not in self._made:
            self._made.add(other)
            value = np.clip(numpy_helper.to_array(self._constants[name]), -_HIGHEST, _HIGHEST)
            tensor = numpy_helper.from_array(value.astype(np.float16), other)
            self.model.graph.initializer.append(tensor)
        return other

    def _cast(self, name: str, other: str, kind: int) -> None:
        self._nodes.append(helper.make_node("Cast", [name], [other], name=f"{other}_cast", to=kind))


def _until_weights(model: onnx.ModelProto) -> set[str]:
    """The nodes between the pixels and the first layer."""
    reached = {entry.name for entry in model.graph.input}
    found = set()
    for node in model.graph.node:
        if reached & set(node.input):
            if node.op_type in _WEIGHTED:
                break
            found.add(node.name)
            reached.update(node.output)
    return found


def _floats(model: onnx.ModelProto) -> set[str]:
    """The activations in single precision."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    return {
        value.name
        for value in (*graph.value_info, *graph.output)
        if value.type.tensor_type.elem_type == TensorProto.FLOAT
    }


def _large(model: onnx.ModelProto, crops: Crops) -> set[str]:
    """The nodes that take or yield values beyond ``LARGEST`` for ``crops``."""
    floats = _floats(model)
    names = [name for node in model.graph.node for name in node.output if name in floats]
    beyond: set[str] = set()
    for values in calibrate.activations(model, names, crops):
        beyond.update(n for n, v in values.items() if v.size and abs(v).max() > LARGEST)
    return {n.name for n in model.graph.node if beyond & {*n.input, *n.output}}
