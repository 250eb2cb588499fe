"""Refuse operators that make a file unfit to be served: of training, chance or one machine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from onnx import GraphProto, ModelProto, NodeProto, TensorProto, numpy_helper

from export.adoption.order import subgraphs
from export.errors import ForeignModelRefused

_TRAINING = (
    "export it in evaluation mode (model.eval(), and training=TrainingMode.EVAL for torch.onnx)"
)
_RANDOM = {
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
    "Bernoulli",
    "Multinomial",
}
_SWITCH = {"Dropout": 2, "BitmaskDropout": 2, "BiasDropout": 4}
"""Which input of a dropout, counted from 0, says whether it is training."""
_RUNTIME = "com.microsoft"
"""Domain of ONNX Runtime's own operators, which its optimiser and its quantiser write."""
_LAYOUTS = {"com.microsoft.nchwc", "com.ms.internal.nhwc", "com.microsoft.nhwc"}
"""Domains of blocked layouts, whose block is as wide as one processor's vectors."""
_QUANTISERS = (
    "QLinear",
    "Quantize",
    "Dequantize",
    "DynamicQuantize",
    "MatMulInteger",
    "QAttention",
)
"""With these begin the names of the operators that its quantiser writes for every machine."""


def refuse(model: ModelProto, output: str) -> None:
    """Raise ForeignModelRefused, with what to do, where ``output`` depends on such an operator."""
    nodes = list(every(needed(model.graph, {output})))
    true = _true(model.graph, nodes)
    for node in nodes:
        where = f"{node.op_type} {node.name}".strip()
        if node.domain in _LAYOUTS:
            raise ForeignModelRefused(
                f"it was optimised by ONNX Runtime for one kind of processor ({where} of domain "
                f"{node.domain}): adopt the file it was made of, or save it at the optimisation "
                "level ORT_ENABLE_BASIC"
            )
        if node.op_type == "EPContext" or node.op_type.startswith("TRT_"):
            raise ForeignModelRefused(
                f"it was compiled for one device ({where}): adopt the file it was made of"
            )
        if node.op_type == "BatchNormalization" and _trains(node):
            raise ForeignModelRefused(
                f"it was exported in training mode ({where} normalises by the pictures of its "
                f"batch): {_TRAINING}"
            )
        if true.intersection(node.input[_SWITCH.get(node.op_type, len(node.input)) :][:1]):
            raise ForeignModelRefused(
                f"it was exported in training mode ({where} drops numbers by chance): {_TRAINING}"
            )
        if node.op_type in _RANDOM:
            raise ForeignModelRefused(
                f"it draws random numbers ({where}), so its answers cannot be proved: {_TRAINING}"
            )


def _true(graph: GraphProto, nodes: list[NodeProto]) -> set[str]:
    """Return the names of the constants that hold the one value True."""
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    for node in nodes:
        for attribute in node.attribute if node.op_type == "Constant" else ():
            if attribute.name == "value":
                tensors[node.output[0]] = attribute.t
    return {
        name
        for name, tensor in tensors.items()
        if tensor.data_type == TensorProto.BOOL and numpy_helper.to_array(tensor).all()
    }


def refuse_maps(model: ModelProto) -> None:
    """Raise ForeignModelRefused for outputs of dictionaries or lists instead of a tensor."""
    for node in model.graph.node:
        if node.op_type == "ZipMap":
            raise ForeignModelRefused(
                f"its output {node.output[0]} is a list of dictionaries (ZipMap, as scikit-learn's "
                "and CatBoost's exporters write): export it as a tensor, with options "
                "{'zipmap': False}"
            )
    for value in model.graph.output:
        if value.type.HasField("sequence_type") or value.type.HasField("map_type"):
            raise ForeignModelRefused(
                f"its output {value.name} is a list or a dictionary, not a tensor of numbers"
            )


def of_the_runtime(model: ModelProto) -> tuple[str, ...]:
    """Return the operators that ONNX Runtime's optimiser put into a graph: only it can run them."""
    found = {
        node.op_type
        for node in every(model.graph.node)
        if node.domain == _RUNTIME and not node.op_type.startswith(_QUANTISERS)
    }
    return tuple(sorted(found))


def needed(graph: GraphProto, outputs: set[str]) -> list[NodeProto]:
    """Return the nodes of a sorted graph that ``outputs`` depend on, in their order."""
    depended_on = set(outputs)
    found = []
    for node in reversed(graph.node):
        if depended_on.intersection(node.output):
            found.append(node)
            depended_on.update(node.input)
            for inner in subgraphs(node):
                depended_on.update(name for below in every(inner.node) for name in below.input)
                depended_on.update(value.name for value in inner.output)
    return found[::-1]


def every(nodes: Iterable[NodeProto]) -> Iterator[NodeProto]:
    """Yield nodes and the nodes of their subgraphs."""
    for node in nodes:
        yield node
        for inner in subgraphs(node):
            yield from every(inner.node)


def _trains(node: NodeProto) -> bool:
    """Whether a BatchNormalization takes means of the batch: it says so, or yields them."""
    said = any(a.name == "training_mode" and a.i for a in node.attribute)
    return said or len([name for name in node.output if name]) > 1
