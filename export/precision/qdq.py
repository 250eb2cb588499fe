"""Write a graph in 8-bit integers: QuantizeLinear and DequantizeLinear around what is quantised.

Activations are unsigned with one scale per tensor, weights signed with one scale per output
channel, biases 32-bit in the scale of the product: the form that ONNX Runtime fuses into
QLinearConv and its like (https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from export.precision.layers import WEIGHTED, Float, Layer, Network, dequantised

Range = tuple[float, float]
"""The lowest and the highest value of a tensor that its 256 levels cover; 0 lies within."""


@dataclass(frozen=True)
class RoundedLayer:
    """The weights of a layer in whole numbers, and the bias that goes with them."""

    whole: npt.NDArray[np.int8]
    """The weights in steps, output channels first."""
    step: Float
    """The step of each output channel: [output channels]."""
    bias: Float
    """[output channels]."""


def write(
    network: Network,
    ranges: Mapping[str, Range],
    *,
    left_in_float: Collection[str] = (),
    rounded: Mapping[str, RoundedLayer] | None = None,
) -> onnx.ModelProto:
    """Return ``network`` with all layers but ``left_in_float`` in 8-bit integers.

    ``ranges`` holds those of ``network.tensors``. Weights of layers that ``rounded`` does not have
    are rounded to the nearest.
    """
    return _Writer(network, ranges, left_in_float, rounded or {}).run()


def scales(weight: Float) -> Float:
    """Return the step of each output channel of weights [channels, ...]: 255 levels around zero."""
    largest = np.abs(weight.reshape(len(weight), -1)).max(axis=1)
    steps: Float = np.maximum(largest / 127, np.float32(1e-12)).astype(np.float32)
    return steps


def levels(limits: Range) -> tuple[np.float32, int]:
    """Return the step of an activation's 256 levels, and the level that means zero."""
    low, high = min(limits[0], 0.0), max(limits[1], 0.0)
    scale = np.float32(max((high - low) / 255, 1e-12))
    return scale, int(np.clip(np.rint(-low / float(scale)), 0, 255))


class _Writer:
    def __init__(
        self,
        network: Network,
        ranges: Mapping[str, Range],
        left_in_float: Collection[str],
        rounded: Mapping[str, RoundedLayer],
    ) -> None:
        self.network = network
        self.rounded = rounded
        self.chosen = {layer.name: layer for layer in _useful(network, left_in_float)}
        self.ranges = dict(ranges)
        self.model = onnx.ModelProto()
        self.model.CopyFrom(network.model)
        self.nodes: list[onnx.NodeProto] = []
        self.made: set[str] = set()

    def run(self) -> onnx.ModelProto:
        graph = self.model.graph
        layers = list(self.chosen.values())
        written = {layer.output for layer in layers}
        quantised = written | {name for layer in layers for name in layer.inputs}
        for passing in layers:
            if passing.passing:  # in order, so that chains inherit from the first
                self.ranges[passing.output] = self.ranges[passing.inputs[0]]
        clips = {layer.clip for layer in layers if layer.clip is not None}
        results = {output.name for output in graph.output}
        rounded = self.network.steps
        for name in (entry.name for entry in graph.input):
            if name in quantised:
                self._pair(name)
        for node in graph.node:
            if node.name in clips:
                continue
            layer = self.chosen.get(node.name)
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            for index, name in enumerate(node.input):
                # what only integers follow is read as integers by all, so that the pair fuses
                ours = layer is not None and name in layer.inputs and name not in rounded
                whole = name in rounded or (name in written and name not in results)
                if layer is None and whole and node.op_type in WEIGHTED and index == 0:
                    self._read_cast(copy)
                elif ours or (whole and name not in rounded):
                    copy.input[index] = dequantised(name)
            if layer is not None:
                if layer.weight is not None:
                    self._weigh(layer, copy)
                copy.output[0] = layer.output
            self.nodes.append(copy)
            for name in copy.output:
                if name in quantised and name not in results and name not in rounded:
                    self._pair(name)
        del graph.node[:]
        graph.node.extend(self.nodes)
        used = {name for node in graph.node for name in node.input}
        kept = [tensor for tensor in graph.initializer if tensor.name in used]
        del graph.initializer[:]
        graph.initializer.extend(kept)
        return self.model

    def _pair(self, name: str) -> None:
        """Round the activation ``name`` to its levels, behind the node that yields it."""
        scale, zero = levels(self.ranges[name])
        self._constant(f"{name}_scale", np.asarray(scale))
        self._constant(f"{name}_zero_point", np.asarray(zero, np.uint8))
        arguments = [f"{name}_scale", f"{name}_zero_point"]
        self._node("QuantizeLinear", [name, *arguments], f"{name}_quantized")
        self._node("DequantizeLinear", [f"{name}_quantized", *arguments], dequantised(name))

    def _read_cast(self, node: onnx.NodeProto) -> None:
        """Let a float layer read integers by a Cast, its weights multiplied with their step.

        Between a DequantizeLinear and a QuantizeLinear ONNX Runtime would round its weights by
        itself (its optimizer WeightBiasQuantization), with one scale for all channels.
        """
        name = node.input[0]
        maker = next((made for made in self.network.model.graph.node if name in made.output), None)
        if name in self.network.steps and maker is not None:
            whole, zero = maker.input[0], maker.input[2]
            step = np.float32(self.network.steps[name])
        else:
            whole, zero = f"{name}_quantized", f"{name}_zero_point"
            step = levels(self.ranges[name])[0]
        if f"{name}_cast" not in self.made:
            self.made.add(f"{name}_cast")
            single = onnx.TensorProto.FLOAT
            self._node("Cast", [whole], f"{name}_cast", to=single)
            self._node("Cast", [zero], f"{name}_zero", to=single)
            self._node("Sub", [f"{name}_cast", f"{name}_zero"], f"{name}_centred")
        weight = self.network.constants[node.input[1]]
        self._constant(f"{node.name}_weight_stepped", weight * step)
        node.input[0], node.input[1] = f"{name}_centred", f"{node.name}_weight_stepped"

    def _weigh(self, layer: Layer, node: onnx.NodeProto) -> None:
        """Give ``node`` integer weights and, in the scale of the product, an integer bias."""
        values = self.rounded.get(layer.name) or self._nearest(layer)
        whole, step, axis = values.whole, values.step, 0
        if self.network.transposed(layer):
            whole, axis = np.ascontiguousarray(whole.T), 1
        node.input[1] = self._dequantised(f"{layer.name}_weight", whole, step, axis)
        source = layer.inputs[0]
        input_step = self.network.steps.get(source) or levels(self.ranges[source])[0]
        product = step * np.float32(input_step)
        limit = 2.0**31 - 1
        whole_bias = np.clip(np.rint(values.bias / product.astype(np.float64)), -limit, limit)
        name = self._dequantised(f"{layer.name}_bias", whole_bias.astype(np.int32), product, 0)
        if len(node.input) > 2:
            node.input[2] = name
        else:
            node.input.append(name)

    def _nearest(self, layer: Layer) -> RoundedLayer:
        weight = self.network.weight(layer)
        step = scales(weight)
        whole = np.rint(weight / step.reshape(-1, *[1] * (weight.ndim - 1)))
        bias = np.zeros(len(step), np.float32)
        if layer.bias is not None:
            bias = self.network.constants[layer.bias]
        return RoundedLayer(np.clip(whole, -127, 127).astype(np.int8), step, bias)

    def _dequantised(
        self, name: str, whole: npt.NDArray[np.generic], step: Float, axis: int
    ) -> str:
        self._constant(f"{name}_quantized", whole)
        self._constant(f"{name}_scale", step)
        self._constant(f"{name}_zero_point", np.zeros(len(step), whole.dtype))
        inputs = [f"{name}_quantized", f"{name}_scale", f"{name}_zero_point"]
        self._node("DequantizeLinear", inputs, f"{name}_dequantized", axis=axis)
        return f"{name}_dequantized"

    def _constant(self, name: str, value: npt.NDArray[np.generic]) -> None:
        self.model.graph.initializer.append(numpy_helper.from_array(value, name))

    def _node(self, op: str, inputs: list[str], output: str, **attributes: Any) -> None:
        self.nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))


def _useful(network: Network, left_in_float: Collection[str]) -> list[Layer]:
    """Return the layers to quantise; one that only moves numbers follows the layer before it."""
    written: set[str] = set()
    found = []
    for layer in network.layers:
        if layer.name in left_in_float:
            continue
        if layer.weight is None and not all(name in written for name in layer.inputs):
            continue  # alone between floats, it would only lose
        found.append(layer)
        written.add(layer.output)
    return found
