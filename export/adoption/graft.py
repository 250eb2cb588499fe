"""Wrap a foreign graph: put it between our ``pixels`` and our ``probabilities`` and ``logits``.

Only operators are used that mean the same from opset 7 on (Cast, Gather, Transpose, Mul, Add,
Flatten, Softmax over the last of two dimensions, Log, Shape, Loop), so that a graph that cannot be
converted is wrapped as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from export.adoption.foreign import IR_VERSION, Foreign, Signature
from export.adoption.names import free_prefix, names_of, rename
from export.adoption.order import subgraphs
from export.adoption.tail import Tail
from service.manifest import Input

Means = npt.NDArray[np.float64]

TINY = 1e-37
"""Added to a probability before its logarithm: single precision goes down to 1.2e-38."""
_OWN, _NETWORK = "adopted", "network"
"""With these begin the names of our own tensors, and of those that had to be renamed."""


class Draft:
    """Nodes and constants of a graph in the making, each with a name of its own."""

    def __init__(self, prefix: str = f"{_OWN}/") -> None:
        """Every name begins with ``prefix``, which no other name of the graph may do."""
        self.prefix = prefix
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []

    def add(self, operator: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        """Append a node and return the name of its first output."""
        output = output or f"{self.prefix}{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [output], **attributes))
        return output

    def constant(self, value: npt.ArrayLike, dtype: npt.DTypeLike) -> str:
        """Append a constant and return its name."""
        name = f"{self.prefix}constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name


def assemble(
    foreign: Foreign,
    network: ModelProto,
    tail: Tail,
    input: Input,  # noqa: A002
    mean: Means,
    *,
    classes: int,
    skip_first: bool,
    one_by_one: bool,
) -> ModelProto:
    """Return the served model: ``pixels`` uint8 [N, H, W, C] -> ``probabilities``, ``logits``.

    ``network`` is the foreign graph, converted or not; ``classes`` are its own. With
    ``one_by_one`` it stands in a Loop over the pictures and keeps the batch it insists on.
    """
    graph = GraphProto()
    graph.CopyFrom(network.graph)
    taken_names = set(names_of(graph))
    draft = Draft(free_prefix(_OWN, taken_names))
    crops = head(draft, foreign.signature, input, mean)
    outputs = {} if tail.logits is None else {"logits": tail.logits}
    if tail.kind == "probabilities" or (tail.kind == "softmax" and not skip_first):
        outputs["probabilities"] = foreign.signature.output
    network_prefix = free_prefix(_NETWORK, taken_names)
    ours = {name: f"{network_prefix}{name}" for name in ("pixels", "probabilities", "logits")}
    feed = _loop if one_by_one else _splice
    names = {role: ours.get(name, name) for role, name in outputs.items()}
    picture = ours.get(foreign.signature.input, foreign.signature.input)
    rename(graph, ours)
    taken = feed(draft, graph, crops, picture, names, foreign.signature)
    _answers(draft, taken, tail, classes=classes, skip_first=skip_first)
    return _model(draft, network, input, classes - skip_first)


def head(
    draft: Draft,
    signature: Signature,
    input: Input,  # noqa: A002
    mean: Means,
) -> str:
    """Append ``(pixel * rescale - mean) / std``, from ``pixels`` uint8 [N, H, W, C] in RGB.

    Returns the name of the tensor that the foreign graph takes.

    ``mean`` is that of each channel [1, 1, C] or of each pixel [H, W, C]. Pixels are moved while
    they are bytes. One multiplication and one addition do the rest.
    """
    name = "pixels"
    if input.color == "BGR":
        name = draft.add("Gather", name, draft.constant([2, 1, 0], np.int64), axis=3)
    if signature.layout == "nchw":
        name = draft.add("Transpose", name, perm=[0, 3, 1, 2])
    if signature.type == TensorProto.UINT8:
        return name
    std = np.reshape(np.asarray(input.std, np.float64), (1, 1, -1))
    scale, shift = (input.rescale / std)[None], (-mean / std)[None]
    if signature.layout == "nchw":
        scale, shift = np.moveaxis(scale, -1, 1), np.moveaxis(shift, -1, 1)
    name = draft.add("Cast", name, to=TensorProto.FLOAT)
    if (scale != 1).any():
        name = draft.add("Mul", name, draft.constant(scale, np.float32))
    if (shift != 0).any():
        name = draft.add("Add", name, draft.constant(shift, np.float32))
    if signature.type != TensorProto.FLOAT:
        name = draft.add("Cast", name, to=signature.type)
    return name


def normalisation(
    foreign: Foreign,
    input: Input,  # noqa: A002
    mean: Means,
) -> ModelProto:
    """Return a model of the head alone: ``pixels`` uint8 [N, H, W, C] -> the foreign input."""
    draft = Draft()
    output = head(draft, foreign.signature, input, mean)
    graph = helper.make_graph(
        draft.nodes or [helper.make_node("Identity", ["pixels"], [output := "same"])],
        "head",
        [_pixels(input)],
        [helper.make_tensor_value_info(output, foreign.signature.type, None)],
        draft.constants,
    )
    opsets = [helper.make_opsetid("", foreign.opset)]
    return helper.make_model(graph, ir_version=IR_VERSION, opset_imports=opsets)


def pruned(
    nodes: Sequence[NodeProto], constants: Sequence[TensorProto], outputs: Sequence[str]
) -> tuple[list[NodeProto], list[TensorProto]]:
    """Return the nodes and constants that ``outputs`` depend on, in their order."""
    needed = set(outputs)
    kept = []
    for node in reversed(nodes):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(_reads(node))
    return kept[::-1], [tensor for tensor in constants if tensor.name in needed]


def _reads(node: NodeProto) -> set[str]:
    """Return the tensors that a node reads, with those that its subgraphs read or make."""
    names = set(node.input)
    for inner in subgraphs(node):
        names.update(value.name for value in inner.output)
        for below in inner.node:
            names |= _reads(below)
    return names


def _splice(
    draft: Draft,
    graph: GraphProto,
    crops: str,
    picture: str,
    taken: Mapping[str, str],
    _signature: Signature,
) -> dict[str, str]:
    """Append the foreign nodes: the whole batch goes through them at once."""
    rename(graph, {picture: crops})
    draft.nodes += graph.node
    draft.constants += graph.initializer
    return dict(taken)


def _loop(
    draft: Draft,
    graph: GraphProto,
    crops: str,
    picture: str,
    taken: Mapping[str, str],
    signature: Signature,
) -> dict[str, str]:
    """Append a Loop over the pictures, with the foreign graph as its body.

    The body takes picture i out of the batch, repeats it as often as the foreign graph insists,
    and keeps the first row of what it yields; the Loop stacks those.
    """
    own = draft.prefix
    body = Draft(f"{own}body/")
    index = body.add("Gather", crops, f"{own}iteration", axis=0)
    one = body.add("Reshape", index, body.constant([1, *signature.sizes], np.int64))
    batch = signature.batch or 1
    body.add("Concat", *[one] * batch, output=picture, axis=0)
    body.nodes += graph.node
    first = body.constant(0, np.int64)
    whole = body.constant([batch, -1], np.int64)
    rows = []
    for role, name in taken.items():
        flat = body.add("Reshape", name, whole)
        rows.append(body.add("Gather", flat, first, output=f"{own}row/{role}", axis=0))
    go_on = body.add("Identity", f"{own}condition", output=f"{own}go_on")
    constants = [*body.constants, *graph.initializer]
    nodes, constants = pruned(body.nodes, constants, [go_on, *rows])
    body_graph = helper.make_graph(
        nodes,
        "one_picture",
        [
            helper.make_tensor_value_info(f"{own}iteration", TensorProto.INT64, []),
            helper.make_tensor_value_info(f"{own}condition", TensorProto.BOOL, []),
        ],
        [
            helper.make_tensor_value_info(go_on, TensorProto.BOOL, []),
            *(onnx.ValueInfoProto(name=row) for row in rows),
        ],
        constants,
    )
    shape = draft.add("Shape", crops)
    count = draft.add("Gather", shape, draft.constant(0, np.int64), axis=0)
    stacked = {role: f"{own}stacked/{role}" for role in taken}
    draft.nodes.append(
        helper.make_node("Loop", [count, ""], list(stacked.values()), body=body_graph)
    )
    return stacked


def _answers(
    draft: Draft, taken: Mapping[str, str], tail: Tail, *, classes: int, skip_first: bool
) -> None:
    """Append what makes float32 ``probabilities`` and ``logits`` [N, classes] of what was taken."""

    def rows(name: str) -> str:
        flat = draft.add("Cast", draft.add("Flatten", name, axis=1), to=TensorProto.FLOAT)
        if not skip_first:
            return flat
        return draft.add("Gather", flat, draft.constant(np.arange(1, classes), np.int64), axis=1)

    own = {role: rows(name) for role, name in taken.items()}
    if tail.scaled:
        share = draft.constant(1 / tail.total, np.float32)
        own["probabilities"] = draft.add("Mul", own["probabilities"], share)
    if "logits" not in own:
        logits = draft.add("Add", own["probabilities"], draft.constant(TINY, np.float32))
        draft.add("Log", logits, output="logits")
    elif tail.quantised is not None:
        scale, zero = tail.quantised
        logits = draft.add("Add", own["logits"], draft.constant(-zero, np.float32))
        draft.add("Mul", logits, draft.constant(scale, np.float32), output="logits")
    else:
        draft.add("Identity", own["logits"], output="logits")
    if "probabilities" in own and not skip_first:
        draft.add("Identity", own["probabilities"], output="probabilities")
    else:
        draft.add("Softmax", "logits", output="probabilities", axis=1)


def _model(draft: Draft, network: ModelProto, input: Input, classes: int) -> ModelProto:  # noqa: A002
    """Return a model of the draft's nodes: every node has a name, and nothing tells who made it."""
    answers = ["probabilities", "logits"]
    nodes, constants = pruned(draft.nodes, draft.constants, answers)
    graph = helper.make_graph(
        nodes,
        "adopted",
        [_pixels(input)],
        [_output(name, classes) for name in answers],
        constants,
    )
    _tidy(graph.node)
    for tensor in graph.initializer:
        tensor.doc_string = ""
    return helper.make_model(
        graph,
        producer_name="export adopt",
        ir_version=network.ir_version,
        opset_imports=list(network.opset_import),
    )


def _pixels(input: Input) -> onnx.ValueInfoProto:  # noqa: A002
    sizes = [input.height, input.width, input.channels]
    return helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["N", *sizes])


def _output(name: str, classes: int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", classes])


def _tidy(nodes: Sequence[NodeProto], prefix: str = "") -> None:
    for index, node in enumerate(nodes):
        node.name = f"{prefix}{node.op_type}_{index}"
        node.doc_string = ""
        del node.metadata_props[:]
        for inner in subgraphs(node):
            _tidy(inner.node, f"{node.name}/")
