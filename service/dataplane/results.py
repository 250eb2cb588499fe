"""Defines the answers of the data plane, and finds the best classes of a picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from service.engine.outputs import Outputs
from service.imaging import kernels
from service.manifest import Label


@dataclass(frozen=True, slots=True)
class Prediction:
    """One class of an answer."""

    rank: int
    index: int
    label: Label
    probability: float


class Timing(NamedTuple):
    """Milliseconds that a picture spent in each stage; `total` counts from the read request on."""

    decode: float
    preprocess: float
    queue: float
    inference: float
    total: float


class Vectors(NamedTuple):
    """The values of all classes for one picture, in the order of the network's outputs."""

    probabilities: npt.NDArray[np.float32]
    """float32 [classes]."""
    logits: npt.NDArray[np.float32] | None
    """float32 [classes]; None where several crops were combined: only probabilities are."""
    labels: Sequence[Label]


class Classification(NamedTuple):
    """The answer for one picture."""

    model: str
    version: str
    protocol: str
    predictions: list[Prediction]
    timing_ms: Timing
    random: bool
    """Whether some weights were never trained, so that the answer means nothing."""
    vectors: Vectors | None = None
    """None unless they were asked for (`service.dataplane.query.Query.vectors`)."""


class Inference(NamedTuple):
    """The answer for ready-made crops."""

    model: str
    version: str
    outputs: Outputs
    labels: Sequence[Label]
    """The labels of the columns of the outputs."""


_MOST_KEPT = 16
"""Up to this top-k, one pass over all classes that keeps the best sorted is quickest."""


def top_predictions(
    probabilities: npt.NDArray[np.float32], labels: Sequence[Label], top_k: int
) -> list[Prediction]:
    """Return the ``top_k`` best classes of float32 [classes], the most probable first.

    Of equal values the lower index comes first. Raises ArithmeticError when any value is NaN or
    one of the best is infinite, ValueError when there are fewer classes than ``top_k``.
    """
    if not 1 <= top_k <= len(probabilities):
        raise ValueError(f"there are no {top_k} best of {len(probabilities)} classes")
    find = _kept if top_k <= _MOST_KEPT and kernels.available() else _sorted
    indices, values = find(probabilities, top_k)
    if not math.isfinite(sum(values)):
        raise ArithmeticError("there are values that are not finite")
    return [
        Prediction(rank, index, labels[index], value)
        for rank, (index, value) in enumerate(zip(indices, values, strict=True), start=1)
    ]


_Best: TypeAlias = tuple[list[int], list[float]]
"""Indices and their values. If any value of the input is NaN, so is the sum of these."""


def _kept(values: npt.NDArray[np.float32], top_k: int) -> _Best:
    indices, largest = np.empty(top_k, np.int64), np.empty(top_k, np.float32)
    row = np.ascontiguousarray(values, np.float32)
    if not kernels.kernels().best(row, indices, largest):
        return [], [math.nan]
    return indices.tolist(), largest.tolist()


def _sorted(values: npt.NDArray[np.float32], top_k: int) -> _Best:
    ordered = values.copy()
    ordered.partition(-top_k)
    largest = ordered[-top_k:].tolist()  # NaN is sorted to the end
    if not math.isfinite(sum(largest)):
        return [], largest
    candidates = (values >= ordered[-top_k]).nonzero()[0]  # more than top_k where there are ties
    order = candidates[(-values[candidates]).argsort(kind="stable")[:top_k]]
    return order.tolist(), values[order].tolist()
