"""Fold the normalisation of the pixels into the first convolution."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

PIXELS = "pixels_planes"
"""The pixels as the first layer's input: floats 0 to 255 minus a whole number."""


def fold_normalisation(model: onnx.ModelProto) -> onnx.ModelProto:
    """Put ``pixel * scale + shift`` into the first convolution, so that bytes enter it as they are.

    The convolution then takes pixels minus a whole level near the mean. Its padding, which stood
    for the mean, now stands for that level: at the outermost positions the difference is half a
    level for networks with the same mean for all colours, some levels for others. A graph that
    does not begin this way is returned as it is.
    """
    graph = model.graph
    nodes = {name: node for node in graph.node for name in node.output}
    values = _constants(graph)
    first = next((node for node in graph.node if node.op_type == "Conv"), None)
    if first is None:
        return model
    chain = [nodes.get(first.input[0])]
    for _ in range(3):
        before = chain[-1]
        chain.append(nodes.get(before.input[0]) if before is not None else None)
    found = [node.op_type if node is not None else "" for node in chain]
    if found != ["Add", "Mul", "Cast", "Transpose"]:
        return model
    add, multiply, cast, _ = (node for node in chain if node is not None)
    scale, shift = values[multiply.input[1]], values[add.input[1]]
    weight = values[first.input[1]]
    channels = weight.shape[1]
    if scale.size not in (1, channels) or shift.size not in (1, channels):
        return model  # a mean of every pixel
    readers = [node for node in graph.node if add.output[0] in node.input]
    if len(readers) != 1:
        return model
    factor = np.broadcast_to(scale.ravel(), channels).astype(np.float64)
    offset = np.broadcast_to(shift.ravel(), channels).astype(np.float64)
    zero = int(np.clip(np.floor(np.mean(-offset / factor) + 0.5), 0, 255))
    total = weight.astype(np.float64).sum(axis=(2, 3)) @ (offset + zero * factor)
    bias = values[first.input[2]] if len(first.input) > 2 else np.zeros(len(weight), np.float32)
    folded = onnx.ModelProto()
    folded.CopyFrom(model)
    graph = folded.graph
    gone = {add.name, multiply.name, cast.name}
    kept = []
    for node in graph.node:
        if node.name == cast.name:
            inputs = [cast.input[0], f"{PIXELS}_scale", f"{PIXELS}_zero_point"]
            kept.append(helper.make_node("DequantizeLinear", inputs, [PIXELS], name=PIXELS))
        if node.name == first.name:
            node.input[0] = PIXELS
            node.input[1] = f"{first.name}_folded_weight"
            del node.input[2:]
            node.input.append(f"{first.name}_folded_bias")
        if node.name not in gone:
            kept.append(node)
    del graph.node[:]
    graph.node.extend(kept)
    for name, value in (
        (f"{PIXELS}_scale", np.float32(1)),
        (f"{PIXELS}_zero_point", np.uint8(zero)),
        (f"{first.name}_folded_weight", weight * factor.reshape(1, -1, 1, 1)),
        (f"{first.name}_folded_bias", bias + total),
    ):
        array = np.asarray(value)
        if array.dtype == np.float64:
            array = array.astype(np.float32)
        graph.initializer.append(numpy_helper.from_array(array, name))
    return _tidied(folded)


def _constants(graph: onnx.GraphProto) -> dict[str, npt.NDArray[np.float32]]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}


def _tidied(model: onnx.ModelProto) -> onnx.ModelProto:
    used = {name for node in model.graph.node for name in node.input}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    return model
