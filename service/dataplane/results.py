"""What the data plane answers for a picture."""

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
    """Milliseconds that a picture spent in each stage; `total` starts when the request is read."""

    decode: float
    preprocess: float
    queue: float
    inference: float
    total: float


class Vectors(NamedTuple):
    """The values of all classes for one picture, in the order of the classes."""

    probabilities: npt.NDArray[np.float32]
    """float32 [classes]."""
    logits: npt.NDArray[np.float32] | None
    """float32 [classes]; None where several crops were combined, which have no logits in common."""
    labels: Sequence[Label]


class Classification(NamedTuple):
    """The answer for one picture."""

    model: str
    version: str
    protocol: str
    predictions: list[Prediction]
    timing_ms: Timing
    random: bool
    """Whether weights that were never trained took part: the answer means nothing."""
    vectors: Vectors | None = None
    """Where they were asked for (`service.dataplane.query.Query.vectors`)."""


class Inference(NamedTuple):
    """The answer for ready-made crops."""

    model: str
    version: str
    outputs: Outputs
    labels: Sequence[Label]
    """What the columns of the outputs mean."""


def top_predictions(
    probabilities: npt.NDArray[np.float32], labels: Sequence[Label], top_k: int
) -> list[Prediction]:
    """The ``top_k`` classes of float32 [classes], most probable first, lower index on a tie.

    Raises ArithmeticError when any is not a number, or one of the best is infinite; ValueError
    when there are fewer classes.
    """
    if not 1 <= top_k <= len(probabilities):
        raise ValueError(f"there are no {top_k} best of {len(probabilities)} classes")
    ordered = probabilities.copy()
    ordered.partition(-top_k)
    largest = ordered[-top_k:]  # what is no number is sorted to the end
    if not math.isfinite(sum(largest.tolist())):
        raise ArithmeticError("there are values that are not finite")
    candidates = (probabilities >= largest[0]).nonzero()[0]  # ties too
    order = candidates[(-probabilities[candidates]).argsort(kind="stable")[:top_k]]
    return [
        Prediction(rank, index, labels[index], value)
        for rank, (index, value) in enumerate(
            zip(order.tolist(), probabilities[order].tolist(), strict=True), start=1
        )
    ]
