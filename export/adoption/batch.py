"""Make a graph that was exported for a fixed batch size take a batch of any size.

Exporters write the batch size into the constant shapes that Reshape reads. One run of the graph
finds them, and they are loosened. Whether the result is right the caller has to measure.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, numpy_helper

from export.adoption.foreign import Foreign, constants
from export.adoption.names import free_prefix, names_of
from export.adoption.order import subgraphs
from export.adoption.original import Pictures
from export.adoption.runtime import session

_FORGETS = {"Shape", "Size"}
"""Operators whose output holds nothing of the pixels."""


def loosened(foreign: Foreign, network: ModelProto, pictures: Pictures) -> ModelProto:
    """Return a copy of ``network`` whose constant shapes no longer hold the batch size.

    ``pictures`` is one batch of the size that the graph was exported for. Raises RuntimeRefusal
    when the graph does not run.
    """
    model = ModelProto()
    model.CopyFrom(network)
    graph = model.graph
    batch = foreign.signature.batch or 1
    carriers = _carriers(graph, foreign.signature.input)
    constant = constants(graph)
    # a shape that is computed has its batch from the pictures
    reshapes = [
        node
        for node in graph.node
        if node.op_type == "Reshape" and node.input[0] in carriers and node.input[1] in constant
    ]
    flattens = [
        node
        for node in graph.node
        if node.op_type == "Flatten"
        and node.input[0] in carriers
        and any(a.name == "axis" and a.i == 0 for a in node.attribute)
    ]
    tensors = {name for node in reshapes + flattens for name in (node.input[0], node.output[0])}
    shapes = _shapes(model, tensors, foreign.signature.input, pictures)
    prefix = free_prefix("any_batch", set(names_of(graph)))
    for node in reshapes:
        _loosen(graph, node, shapes[node.output[0]], batch, prefix)
    for node in flattens:
        if batch == 1 and shapes[node.input[0]][:1] == (1,):
            next(a for a in node.attribute if a.name == "axis").i = 1
    _forget_shapes(graph)
    return model


def _loosen(
    graph: GraphProto, node: NodeProto, shape: tuple[int, ...], batch: int, prefix: str
) -> None:
    """Give a Reshape the shape that it made in the run, with -1 as its first dimension."""
    if not shape or shape[0] != batch or 0 in shape:
        return
    name = f"{prefix}{node.output[0]}"
    graph.initializer.append(numpy_helper.from_array(np.asarray([-1, *shape[1:]], np.int64), name))
    node.input[1] = name


def _forget_shapes(graph: GraphProto) -> None:
    """Drop the shapes that a graph and its subgraphs state: they have the batch in them."""
    del graph.value_info[:]
    for node in graph.node:
        for inner in subgraphs(node):
            for value in inner.output:
                if value.type.HasField("tensor_type"):
                    value.type.tensor_type.ClearField("shape")
            _forget_shapes(inner)


def _carriers(graph: GraphProto, picture: str) -> set[str]:
    """Return the names of the tensors that are computed from the pixels."""
    carriers = {picture}
    for node in graph.node:
        if node.op_type not in _FORGETS and carriers.intersection(node.input):
            carriers.update(node.output)
    return carriers


def _shapes(
    model: ModelProto, names: Iterable[str], picture: str, pictures: Pictures
) -> dict[str, tuple[int, ...]]:
    """Return the shapes that the tensors ``names`` have when the graph runs on ``pictures``."""
    measured = sorted(set(names) - {picture})
    spy = ModelProto()
    spy.CopyFrom(model)
    del spy.graph.output[:]
    for name in measured:
        spy.graph.output.add().name = name
    shapes = {picture: tuple(pictures.shape)}
    if measured:
        values = session(spy).run(measured, {picture: pictures})
        shapes |= {name: np.shape(value) for name, value in zip(measured, values, strict=True)}
    return shapes
