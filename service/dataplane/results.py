"""Defines the answers of the data plane, and finds the best classes of a picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from service.engine.outputs import Outputs
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
    assumed: bool
    """Whether nobody said that some weights were trained with the preprocessing that was used."""
    vectors: Vectors | None = None
    """None unless they were asked for (`service.dataplane.query.Query.vectors`)."""


class Inference(NamedTuple):
    """The answer for ready-made crops."""

    model: str
    version: str
    outputs: Outputs
    labels: Sequence[Label]
    """The labels of the columns of the outputs."""


def top_predictions(
    probabilities: npt.NDArray[np.float32], labels: Sequence[Label], top_k: int
) -> list[Prediction]:
    """Return the ``top_k`` best classes of float32 [classes], the most probable first.

    Of equal values the lower index comes first. Raises ArithmeticError when any value is NaN or
    one of the best is infinite, ValueError when there are fewer classes than ``top_k``.
    """
    if not 1 <= top_k <= len(probabilities):
        raise ValueError(f"there are no {top_k} best of {len(probabilities)} classes")
    ordered = probabilities.copy()
    ordered.partition(-top_k)
    largest = ordered[-top_k:]  # NaN is sorted to the end
    if not math.isfinite(sum(largest.tolist())):
        raise ArithmeticError("there are values that are not finite")
    candidates = (probabilities >= largest[0]).nonzero()[0]  # more than top_k for ties
    order = candidates[(-probabilities[candidates]).argsort(kind="stable")[:top_k]]
    return [
        Prediction(rank, index, labels[index], value)
        for rank, (index, value) in enumerate(
            zip(order.tolist(), probabilities[order].tolist(), strict=True), start=1
        )
    ]
