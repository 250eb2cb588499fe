"""Write a graph in bfloat16, for CPUs, with as few layers in single precision as will agree.

bfloat16 has 8 bits of precision. What they cost lies mostly in the first layers: filters whose
weights cancel out, and noise that all others pass on. So weights are rounded as those of integers
are, with the mean of what remains in the bias, and single precision is left from the first layer
on. Where layers were picked by their noise alone, one here and one there, as many of them agreed no
better, and the casts between them took the time that bfloat16 gains.

The graph says itself which layers are in which type. OpenVINO computes it so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import onnx
from onnx import numpy_helper, version_converter

from export.errors import ExportError
from export.precision import calibrate, layers
from export.precision.crops import Crops
from export.precision.narrow import BFLOAT16, narrow
from export.precision.rounding import round_to_bfloat16
from service.engine.providers import available, openvino
from service.engine.session_factory import openvino_session

OPSET = 22
"""The first opset in which a convolution may be in bfloat16."""
_ROUNDING_CROPS = 56


@dataclass
class Narrowed:
    """A graph whose layers can be put back into single precision, from the first on."""

    single: onnx.ModelProto
    network: layers.Network
    rounded: dict[str, tuple[layers.Float, layers.Float]]
    ranking: list[str]
    """Layers in the order of the graph."""

    def model(self, left_in_float: int) -> onnx.ModelProto:
        """Return the graph with that many layers in single precision, from the first on."""
        left = set(self.ranking[:left_in_float])
        changed = onnx.ModelProto()
        changed.CopyFrom(self.single)
        constants = {tensor.name: tensor for tensor in changed.graph.initializer}
        for layer in self.network.layers:
            if layer.name in self.rounded and layer.name not in left:
                _give(changed.graph, constants, layer, *self.rounded[layer.name])
        return narrow(changed, BFLOAT16, self._wide(left))

    def _wide(self, left: set[str]) -> set[str]:
        """Return the nodes in single precision: none is a layer in bfloat16 or depends on one."""
        narrowed: set[str] = set()
        wide = set()
        for node in self.single.graph.node:
            computes = node.name in self.rounded
            if node.name in left or not (computes or narrowed & set(node.input)):
                wide.add(node.name)
            else:
                narrowed.update(node.output)
        return wide


def _give(
    graph: onnx.GraphProto,
    constants: dict[str, onnx.TensorProto],
    layer: layers.Layer,
    weight: layers.Float,
    bias: layers.Float,
) -> None:
    """Give the layer this weight and this bias, in place of its own bias if it has one."""
    constants[str(layer.weight)].CopyFrom(numpy_helper.from_array(weight, layer.weight))
    name = layer.bias or f"{layer.name}_bias"
    if layer.bias is None:
        constants[name] = graph.initializer.add()
        next(node for node in graph.node if node.name == layer.name).input.append(name)
    constants[name].CopyFrom(numpy_helper.from_array(bias, name))


def convert(
    model: onnx.ModelProto, crops: Crops, *, report: Callable[[str], None] = lambda _: None
) -> Narrowed:
    """Round ``model`` on crops uint8 [N, H, W, C].

    Raises ExportError where bfloat16 cannot be computed here, or nothing in the graph can be in it.
    """
    demand()
    single = version_converter.convert_version(model, OPSET)
    del single.graph.value_info[:]
    network = layers.read(single)
    weighted = [layer.name for layer in network.layers if layer.weight is not None]
    if not weighted:
        raise ExportError("the graph has no layer that could be put into bfloat16")
    rounded = round_to_bfloat16(network, crops[:_ROUNDING_CROPS], report)
    return Narrowed(single, network, rounded, weighted)


def demand() -> None:
    """Raise ExportError where this machine cannot compute bfloat16."""
    why = available.missing("openvino")
    if why:
        raise ExportError(f"bf16 is measured with OpenVINO, which {why}")
    if why := openvino.no_bf16():
        raise ExportError(f"bf16 cannot be measured here: {why}")


def session(model: onnx.ModelProto) -> calibrate.Session:
    """Open a session of OpenVINO with one stream, which takes one crop a run."""
    return openvino_session(model.SerializeToString())
