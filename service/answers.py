"""What the data plane answers for a picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from service.engine.network import Outputs
from service.repository import Label


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


class Classification(NamedTuple):
    """The answer for one picture."""

    model: str
    version: str
    protocol: str
    predictions: list[Prediction]
    timing_ms: Timing
    random: bool
    """Whether weights that were never trained took part: the answer means nothing."""


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

    Raises ArithmeticError when any is not a number, or one of the best is infinite.
    """
    ordered = probabilities.copy()
    ordered.partition(-top_k)
    if not math.isfinite(sum(ordered[-top_k:].tolist())):  # what is no number is sorted to the end
        raise ArithmeticError("there are values that are not finite")
    candidates = (probabilities >= ordered[-top_k]).nonzero()[0]  # ties too
    order = candidates[(-probabilities[candidates]).argsort(kind="stable")[:top_k]]
    return [
        Prediction(rank, index, labels[index], probability)
        for rank, (index, probability) in enumerate(
            zip(order.tolist(), probabilities[order].tolist(), strict=True), start=1
        )
    ]
