"""Find the tensors of a foreign graph that hold its probabilities and its logits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from onnx import GraphProto, ModelProto, NodeProto

from export.adoption import look
from export.adoption.foreign import Activation, Foreign, constants
from export.adoption.original import Original, Pictures, Rows
from export.adoption.runtime import RuntimeRefusal, session
from export.errors import ForeignModelRefused

Wide = npt.NDArray[np.float64]
Constants = Mapping[str, npt.NDArray[np.generic]]
Kind = Literal["logits", "log_softmax", "softmax", "rounded softmax", "probabilities"]

_SHAPES = frozenset(
    {"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Cast", "Dropout"},
)
"""Operators between a Softmax and the output that change no number."""
_SCALING = frozenset({"Mul", "Div", "Add", "Sub", "Clip"})
"""Operators that change each number by a constant."""
_IN_PLACE = _SCALING | {"Softmax", "LogSoftmax", "Log", "Exp", "Sigmoid"}
_FEW_BEST = {"TopK", "ArgMax", "ArgMin", "NonMaxSuppression"}
_ROUNDING = frozenset({"QuantizeLinear", "DequantizeLinear"})
_NO_SOFTMAX = {"Sigmoid", "HardSigmoid", "Hardmax"}
_MULTI_LABEL = (
    "its classes do not exclude each other (multi-label). The service gives probabilities that add "
    "up to 1, so it cannot serve such a network yet"
)
_ALL = "take the output before them (--take NAME), or export without it"
_SUM_TOLERANCE = 1e-3
"""How far probabilities may be from adding up to 1: what the service demands at warm-up."""
_SAME = 1e-5
"""How far a softmax that is recomputed may be from the graph's own, in single precision."""
_COARSEST = 1 / 128
"""The step of probabilities in signed bytes: taken where the file computes its step."""
_HALF = 2**-10
"""The same in half precision: an ulp at 1."""


@dataclass(frozen=True)
class Tail:
    """What the output of a foreign graph means, and which tensor holds the logits."""

    kind: Kind
    """``logits``: the output itself. ``log_softmax``: likewise, logarithms of probabilities.
    ``softmax``: the input of the last Softmax, the output being its probabilities. ``rounded
    softmax``: the same, but the output is quantised so coarsely that it does not add up to 1.
    ``probabilities``: there are no logits to be had."""
    logits: str | None
    """The tensor with the logits, [N, classes] but for dimensions of 1."""
    step: float = 0.0
    """The step in which the output is quantised."""
    quantised: tuple[float, int] | None = None
    """Scale and zero point of ``logits``, where that tensor is quantised."""
    total: float = 1.0
    """The sum of each of the output's rows, where they are probabilities: 100 for percentages."""
    doubts: tuple[str, ...] = ()
    """What speaks against logits, though the user said that they are."""

    @property
    def has_logits(self) -> bool:
        """Whether what is compared are logits, not logarithms of probabilities."""
        return self.kind in ("logits", "log_softmax", "rounded softmax")

    @property
    def words(self) -> str:
        """Say for people where the logits come from."""
        return {
            "logits": "the file's output; a softmax over the classes makes probabilities",
            "log_softmax": "the file's output, logarithms of probabilities",
            "softmax": "the input of the file's last Softmax",
            "rounded softmax": "the input of the file's last Softmax, whose own output is "
            f"quantised in steps of {self.step:.3g}: probabilities are computed anew",
            "probabilities": "log(p): the file yields probabilities alone"
            + (f", which add up to {self.total:g} and were divided by it" if self.scaled else ""),
        }[self.kind]

    @property
    def scaled(self) -> bool:
        """Whether the output's rows have to be divided by their sum."""
        return self.total != 1


def find(
    foreign: Foreign,
    original: Original,
    pictures: Pictures,
    activation: Activation | None = None,
    *,
    imagenet: bool = True,
) -> Tail:
    """Say what the foreign output means, by the graph's last operators and by what they compute.

    ``activation`` is what the user says. Numbers that may be logits, features or the scores of
    classes that do not exclude each other are taken for logits without it only where the classes
    are those of ``imagenet`` and nothing speaks against it. Raises ForeignModelRefused when the
    answers are neither logits nor probabilities, and when it is for the user to say.
    """
    rows = original.rows(pictures).astype(np.float64)
    if not np.isfinite(rows).all():
        raise ForeignModelRefused("its answers to photographs are not finite numbers")
    again = original.rows(pictures[:1]).astype(np.float64)
    if np.abs(again - rows[:1]).max() > _SAME * max(1.0, float(np.abs(rows[0]).max())):
        raise ForeignModelRefused(
            "its answers to the same picture differ from run to run: export it in evaluation mode"
        )
    last, step = _last_operator(foreign.model.graph, foreign.signature.output)
    _refuse_operator(foreign, last)
    if activation == "sigmoid":
        raise ForeignModelRefused(f"--activation sigmoid: {_MULTI_LABEL}")
    total = look.constant_sum(rows)
    if last is not None and last.op_type in ("Softmax", "QLinearSoftmax"):
        tail = _behind(last, step, constants(foreign.model.graph))
        if tail is not None and _is_plain(foreign, tail, pictures, rows):
            return tail
        if total is None or abs(total - 1) > _SUM_TOLERANCE:
            raise ForeignModelRefused("it ends in a Softmax, but not over its classes")
    if look.are_sorted(rows):
        raise ForeignModelRefused(
            f"every row of its output {foreign.signature.output} falls from the first number to "
            f"the last: these are the best classes in their order, not all classes; {_ALL}"
        )
    if total is not None:
        return Tail("probabilities", None, total=total if abs(total - 1) > _SUM_TOLERANCE else 1.0)
    if look.are_logarithms(rows):
        return Tail("log_softmax", foreign.signature.output)
    if look.are_shares(rows) and not look.have_one_length(rows):
        raise ForeignModelRefused(
            "its answers lie from 0 to 1 and do not add up to one number, as behind a Sigmoid: "
            f"{_MULTI_LABEL}"
        )
    doubts = look.doubts(rows)
    if activation is None and (doubts or not imagenet):
        raise ForeignModelRefused(_question(foreign.signature.output, rows.shape[1], doubts))
    return Tail("logits", foreign.signature.output, doubts=doubts)


def _refuse_operator(foreign: Foreign, last: NodeProto | None) -> None:
    """Raise ForeignModelRefused where the graph's end cannot be probabilities of all classes."""
    graph, output = foreign.model.graph, foreign.signature.output
    scaled, _ = _last_operator(graph, output, _SHAPES | _ROUNDING | _SCALING)
    for node in (last, scaled):
        if node is not None and node.op_type in _NO_SOFTMAX:
            raise ForeignModelRefused(f"it ends in {node.op_type}: {_MULTI_LABEL}")
    behind, _ = _last_operator(graph, output, _SHAPES | _ROUNDING | _IN_PLACE)
    if behind is not None and behind.op_type in _FEW_BEST:
        raise ForeignModelRefused(
            f"it ends in {behind.op_type}: it yields the best classes, not a number for each; "
            f"{_ALL}"
        )


def _question(output: str, classes: int, doubts: tuple[str, ...]) -> str:
    """Return what to ask the user about numbers that cannot be told from logits."""
    seen = f" What was seen: {'; '.join(doubts)}." if doubts else ""
    return (
        f"its output {output} has {classes} numbers a picture that are no probabilities, and the "
        f"file does not say what they are.{seen} --activation softmax, if they are logits of "
        "classes of which one is right for a picture; --activation sigmoid, if any number of "
        "classes may be right; an embedding or features are no classifier"
    )


def softmax(logits: Rows) -> Wide:
    """Return the probabilities of logits [..., classes], in double precision."""
    wide = logits.astype(np.float64)
    powers: Wide = np.exp(wide - wide.max(axis=-1, keepdims=True))
    probabilities: Wide = powers / powers.sum(axis=-1, keepdims=True)
    return probabilities


def _last_operator(
    graph: GraphProto, output: str, through: frozenset[str] = _SHAPES | _ROUNDING
) -> tuple[NodeProto | None, float]:
    """Return the operator that computes the answer, and the step in which that is quantised.

    ``through`` are the operators that are passed over; those with two inputs that are computed
    are not. The step is 0 where the answer is not quantised.
    """
    producers = {name: node for node in graph.node for name in node.output}
    constant = constants(graph)
    fixed = {tensor.name for tensor in graph.initializer}
    fixed |= {node.output[0] for node in graph.node if node.op_type == "Constant"}
    step = 0.0
    node = producers.get(output)
    while node is not None and node.op_type in through:
        if node.op_type in _ROUNDING:
            step = max(step, _number(constant, node.input[1]) or _COARSEST)
        source = node.input[0]
        if node.op_type in _SCALING:
            computed = [name for name in node.input if name and name not in fixed]
            if len(computed) != 1:
                break
            source = computed[0]
        node = producers.get(source)
    return node, step


def _behind(last: NodeProto, step: float, constant: Constants) -> Tail | None:
    """Return the tail of a graph that ends in a Softmax; None where its scale is no constant."""
    if last.op_type == "Softmax":
        return Tail("rounded softmax" if step else "softmax", last.input[0], step)
    # com.microsoft.QLinearSoftmax: X, its scale and zero point, the answer's scale and zero point
    scale, zero, own_step = (_number(constant, last.input[index]) for index in (1, 2, 3))
    if scale is None or zero is None or own_step is None:
        return None
    return Tail("rounded softmax", last.input[0], max(step, own_step), (scale, int(zero)))


def _number(constant: Constants, name: str) -> float | None:
    value = constant.get(name)
    return float(np.ravel(value).max()) if value is not None and value.size else None


def _is_plain(foreign: Foreign, tail: Tail, pictures: Pictures, rows: Wide) -> bool:
    """Whether the softmax of the tapped logits is the file's own output."""
    try:
        logits = Tap(foreign, tail).rows(pictures)
    except RuntimeRefusal:
        return False
    if logits.shape != rows.shape:
        return False
    same = _HALF if foreign.halves else _SAME
    # a quantised answer ends where its calibration ended
    probabilities = np.minimum(softmax(logits), rows.max()) if tail.step else softmax(logits)
    return bool(np.abs(probabilities - rows).max() <= same + tail.step)


class Tap:
    """The foreign graph as it came, with the tensor of the logits as its only output."""

    def __init__(self, foreign: Foreign, tail: Tail) -> None:
        """Open the graph. Raises RuntimeRefusal where ONNX Runtime cannot."""
        self._tail = tail
        self._signature = foreign.signature
        model = ModelProto()
        model.CopyFrom(foreign.model)
        del model.graph.output[:]
        model.graph.output.add().name = tail.logits or ""
        self._session = session(model)

    def rows(self, pictures: Pictures) -> Wide:
        """Return the logits [N, classes] of pictures [N, ...], each computed by itself."""
        rows = []
        for picture in pictures:
            batch = np.repeat(picture[None], self._signature.batch or 1, axis=0)
            (values,) = self._session.run(None, {self._signature.input: batch})
            rows.append(np.asarray(values)[:1].reshape(1, -1).astype(np.float64))
        scale, zero = self._tail.quantised or (1.0, 0)
        logits: Wide = (np.concatenate(rows) - zero) * scale
        return logits
