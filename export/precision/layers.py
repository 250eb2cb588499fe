"""Find the layers of a float graph that 8-bit kernels exist for."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

Float = npt.NDArray[np.float32]

WEIGHTED = ("Conv", "Gemm")
_MIXING = ("Add", "Concat", "AveragePool", "GlobalAveragePool")
_PASSING = ("MaxPool", "Reshape", "Flatten")
_CLIPPING = ("Relu", "Clip")


@dataclass(frozen=True)
class Layer:
    """Nodes that are quantised together: one that computes, and the clipping that follows it."""

    name: str
    op: str
    inputs: tuple[str, ...]
    """Names of the activations that it reads."""
    output: str
    """Name of the activation after the clipping."""
    before: str
    """The output before the clipping; the same as ``output`` where nothing is clipped."""
    clip: str | None = None
    """The clipping node, which the range of ``output`` makes superfluous."""
    weight: str | None = None
    bias: str | None = None

    @property
    def passing(self) -> bool:
        """Whether the output has the levels of the input."""
        return self.op in _PASSING


@dataclass
class Network:
    """A float graph, seen as layers that can be quantised."""

    model: onnx.ModelProto
    layers: list[Layer]
    constants: dict[str, Float] = field(repr=False)
    steps: dict[str, float]
    """By name, the step of activations that are whole numbers already: the pixels."""

    @property
    def tensors(self) -> list[str]:
        """The names of the activations that layers read or write, whose ranges must be known."""
        names = (name for layer in self.layers for name in (*layer.inputs, layer.output))
        return [name for name in dict.fromkeys(names) if name not in self.steps]

    def weight(self, layer: Layer) -> Float:
        """Return the layer's weights, output channels first."""
        assert layer.weight is not None  # noqa: S101
        weight = self.constants[layer.weight]
        return weight.T if self.transposed(layer) else weight

    def transposed(self, layer: Layer) -> bool:
        """Whether the graph holds the weights with the output channels last."""
        return layer.op == "Gemm" and not attribute(self.node(layer.name), "transB", 0)

    def node(self, name: str) -> onnx.NodeProto:
        """Return the node of that name."""
        found: onnx.NodeProto = next(n for n in self.model.graph.node if n.name == name)
        return found


def read(model: onnx.ModelProto) -> Network:
    """Find the layers of ``model`` that 8-bit kernels exist for, in the order of the graph."""
    graph = model.graph
    constants = {
        tensor.name: numpy_helper.to_array(tensor)
        for tensor in graph.initializer
        if tensor.data_type == onnx.TensorProto.FLOAT
    }
    fixed = {tensor.name for tensor in graph.initializer}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    results = {output.name for output in graph.output}
    behind_pixels = _head(graph)
    layers = []
    for node in graph.node:
        if node.name in behind_pixels or node.op_type not in (*WEIGHTED, *_MIXING, *_PASSING):
            continue
        weight = bias = None
        inputs = [name for name in node.input if name]
        if node.op_type in WEIGHTED:
            if not all(name in constants for name in inputs[1:]) or not _plain(node):
                continue
            weight = inputs[1]
            bias = inputs[2] if len(inputs) > 2 else None
            inputs = inputs[:1]
        elif node.op_type == "Reshape":
            inputs = inputs[:1]
        if any(name in fixed for name in inputs) or len(node.output) != 1:
            continue
        output, clip = node.output[0], None
        following = readers.get(output, [])
        if (
            node.op_type in (*WEIGHTED, "Add")
            and len(following) == 1
            and output not in results
            and following[0].op_type in _CLIPPING
        ):
            clip, output = following[0].name, following[0].output[0]
        layers.append(
            Layer(
                node.name, node.op_type, tuple(inputs), output, node.output[0], clip, weight, bias
            )
        )
    steps = {
        node.output[0]: float(constants[node.input[1]])
        for node in graph.node
        if node.op_type == "DequantizeLinear"
    }
    return Network(model, layers, constants, steps)


def dequantised(name: str) -> str:
    """Return the name of what integer layers read instead of the activation ``name``."""
    return f"{name}_dequantized"


def _head(graph: onnx.GraphProto) -> set[str]:
    """Return the nodes from the pixels up to the first with weights: the normalisation."""
    reached = {entry.name for entry in graph.input}
    found = set()
    for node in graph.node:
        if node.op_type not in WEIGHTED and any(name in reached for name in node.input):
            found.add(node.name)
            reached.update(node.output)
    return found


def _plain(node: onnx.NodeProto) -> bool:
    """Whether a Gemm is a mere product plus bias; a Conv always is."""
    if node.op_type == "Conv":
        return True
    return (
        attribute(node, "alpha", 1.0) == 1
        and attribute(node, "beta", 1.0) == 1
        and not attribute(node, "transA", 0)
    )


def attribute(node: onnx.NodeProto, name: str, default: float) -> float:
    """Return the number in an attribute of a node, or ``default`` where it has none."""
    for item in node.attribute:
        if item.name == name:
            return float(helper.get_attribute_value(item))
    return default
