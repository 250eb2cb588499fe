"""Where a foreign graph's probabilities and logits are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from onnx import GraphProto, ModelProto, NodeProto

from export.adoption.foreign import Foreign, constants
from export.adoption.original import Original, Pictures, Rows
from export.adoption.runtime import RuntimeRefusal, session
from export.errors import ForeignModelRefused

Wide = npt.NDArray[np.float64]
Constants = Mapping[str, npt.NDArray[np.generic]]
Kind = Literal["logits", "softmax", "rounded softmax", "probabilities"]

_SHAPES = {"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Cast", "Dropout"}
"""What may stand between a Softmax and the output without changing a number."""
_ROUNDING = {"QuantizeLinear", "DequantizeLinear"}
_NO_SOFTMAX = {"Sigmoid", "HardSigmoid", "Hardmax"}
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
    """``logits``: the output itself. ``softmax``: the input of the last Softmax, the output being
    its probabilities. ``rounded softmax``: the same, but the output is quantised so coarsely that
    it does not add up to 1. ``probabilities``: there are no logits to be had."""
    logits: str | None
    """The tensor with the logits, [N, classes] but for dimensions of 1."""
    step: float = 0.0
    """The step in which the output is quantised."""
    quantised: tuple[float, int] | None = None
    """Scale and zero point of ``logits``, where that tensor is quantised."""

    @property
    def words(self) -> str:
        """For a person: where the logits come from."""
        return {
            "logits": "the file's output",
            "softmax": "the input of the file's last Softmax",
            "rounded softmax": "the input of the file's last Softmax, whose own output is "
            f"quantised in steps of {self.step:.3g}: probabilities are computed anew",
            "probabilities": "log(p): the file yields probabilities alone",
        }[self.kind]


def find(foreign: Foreign, original: Original, pictures: Pictures) -> Tail:
    """Say what the foreign output means, by the graph's last operators and by what they compute.

    Raises ForeignModelRefused when the answers are neither logits nor probabilities.
    """
    rows = original.rows(pictures).astype(np.float64)
    if not np.isfinite(rows).all():
        raise ForeignModelRefused("its answers to photographs are not finite numbers")
    last, step = _last_operator(foreign.model.graph, foreign.signature.output)
    if last is not None and last.op_type in _NO_SOFTMAX:
        raise ForeignModelRefused(
            f"it ends in {last.op_type}: its classes do not exclude each other"
        )
    sums_to_one = bool((rows >= 0).all() and np.abs(rows.sum(axis=1) - 1).max() <= _SUM_TOLERANCE)
    if last is not None and last.op_type in ("Softmax", "QLinearSoftmax"):
        tail = _behind(last, step, constants(foreign.model.graph))
        if tail is not None and _is_plain(foreign, tail, pictures, rows):
            return tail
    if sums_to_one:
        return Tail("probabilities", None)
    if last is not None and last.op_type == "Softmax":
        raise ForeignModelRefused("it ends in a Softmax, but not over its classes")
    return Tail("logits", foreign.signature.output)


def softmax(logits: Rows) -> Wide:
    """Probabilities of logits [..., classes], in double precision."""
    wide = logits.astype(np.float64)
    powers: Wide = np.exp(wide - wide.max(axis=-1, keepdims=True))
    probabilities: Wide = powers / powers.sum(axis=-1, keepdims=True)
    return probabilities


def _last_operator(graph: GraphProto, output: str) -> tuple[NodeProto | None, float]:
    """The operator that computes the answer, before its shape changes; the step it is rounded in.

    The step is 0 where it is not quantised.
    """
    producers = {name: node for node in graph.node for name in node.output}
    constant = constants(graph)
    step = 0.0
    node = producers.get(output)
    while node is not None and node.op_type in _SHAPES | _ROUNDING:
        if node.op_type in _ROUNDING:
            step = max(step, _number(constant, node.input[1]) or _COARSEST)
        node = producers.get(node.input[0])
    return node, step


def _behind(last: NodeProto, step: float, constant: Constants) -> Tail | None:
    """The tail of a graph that ends in a Softmax, or None where its numbers are not constant."""
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
    """Whether the softmax of the tapped logits is what the file says."""
    try:
        logits = Tap(foreign, tail).rows(pictures)
    except RuntimeRefusal:
        return False
    if logits.shape != rows.shape:
        return False
    same = _HALF if foreign.precision == "fp16" else _SAME
    # a quantised answer ends where its calibration ended
    probabilities = np.minimum(softmax(logits), rows.max()) if tail.step else softmax(logits)
    return bool(np.abs(probabilities - rows).max() <= same + tail.step)


class Tap:
    """The foreign graph as it came, but for its output: the tensor with the logits."""

    def __init__(self, foreign: Foreign, tail: Tail) -> None:
        """Open it. Raises RuntimeRefusal."""
        self._tail = tail
        self._signature = foreign.signature
        model = ModelProto()
        model.CopyFrom(foreign.model)
        del model.graph.output[:]
        model.graph.output.add().name = tail.logits or ""
        self._session = session(model)

    def rows(self, pictures: Pictures) -> Wide:
        """The logits [N, classes] of pictures [N, ...], each computed by itself."""
        rows = []
        for picture in pictures:
            batch = np.repeat(picture[None], self._signature.batch or 1, axis=0)
            (values,) = self._session.run(None, {self._signature.input: batch})
            rows.append(np.asarray(values)[:1].reshape(1, -1).astype(np.float64))
        scale, zero = self._tail.quantised or (1.0, 0)
        logits: Wide = (np.concatenate(rows) - zero) * scale
        return logits
