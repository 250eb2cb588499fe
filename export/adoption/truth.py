"""What the foreign file says of pictures, and how far the adopted model may be from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from export.adoption.original import Original, Pictures, Pixels, Rows
from export.adoption.tail import Tail, Tap, softmax
from export.proof.parity import (
    MAX_LOGIT_DIFFERENCE,
    MAX_PROBABILITY_DIFFERENCE,
    Answers,
    Tolerance,
    compare,
    of_classes,
)

Floats = npt.NDArray[np.floating]
Wide = npt.NDArray[np.float64]

_FLOOR = 1e-30
"""Probabilities below are compared as if they were this: single precision ends at 1e-38."""
_HALF_FLOOR = 2.0**-14
"""The same in half precision, which has 11 bits down to here and fewer below."""
_HALF_ULP = 2.0**-10
"""The largest unit in the last place of a half, as a share of the number."""
_TREMORS = 2
_MARGIN = 2
"""The own unrest of a rounded network is measured on a few pictures; on others it is more."""
_MOST_PROBABILITY = 0.1
_MOST_LOGIT = 0.5
"""A network with more unrest than this cannot be compared with anything."""


class Truth:
    """What the foreign file says of pictures: its probabilities, and logits up to a constant."""

    def __init__(self, original: Original, tail: Tail, *, skip_first: bool) -> None:
        self.original = original
        self.tail = tail
        self.skip_first = skip_first
        self.classes = original.classes - skip_first
        # what a quantised Softmax yields is too coarse to be compared; what it is fed is not
        self._tap = Tap(original.foreign, tail) if tail.kind == "rounded softmax" else None

    @property
    def rounds(self) -> bool:
        """Whether the file computes in less than single precision."""
        return self.original.foreign.precision != "fp32" or self.halves

    @property
    def halves(self) -> bool:
        """Whether the file rounds to half precision."""
        return self.original.foreign.halves

    def answers(
        self, crops: Pixels, tremor: np.random.Generator | None = None
    ) -> tuple[Wide, Wide]:
        """(probabilities, logits or log(p)) [N, classes] of crops uint8 [N, H, W, C].

        Without the class that is skipped. See `Original.pictures` for ``tremor``.
        """
        return self.answers_to(self.original.pictures(crops, tremor))

    def answers_to(self, pictures: Pictures) -> tuple[Wide, Wide]:
        """The same of what the file takes, [N, ...]."""
        first = 1 if self.skip_first else 0
        source = self._tap or self.original
        rows = source.rows(pictures).astype(np.float64)
        if self.tail.has_logits:
            return softmax(rows[:, first:]), rows[:, first:]
        probabilities: Wide = rows[:, first:] / self.tail.total
        if self.skip_first:
            probabilities = probabilities / probabilities.sum(axis=1, keepdims=True)
        return probabilities, self._logarithms(probabilities)

    def comparable(self, logits: Rows) -> Wide:
        """The adopted model's logits in the form that ``answers`` has."""
        if self.tail.has_logits:
            return logits.astype(np.float64)
        return self._logarithms(softmax(logits))

    def _logarithms(self, probabilities: Wide) -> Wide:
        """log(p), down to what the file's precision can tell from 0."""
        floor = _HALF_FLOOR if self.halves else _FLOOR
        logarithms: Wide = np.log(np.maximum(probabilities, floor))
        return logarithms


def tolerance(truth: Truth, pictures: Sequence[Pixels]) -> Tolerance:
    """How far the adopted model may be from the file, from the picture on.

    ``pictures`` are the crops of each, whose mean is its answer. In single precision as far as any
    export. A network that rounds (to bytes, to halves) may round the other way when its input moves
    by a rounding error: so the file is run on the crops as they are and moved by as much, and twice
    its own unrest is allowed.
    """
    if not truth.rounds:
        return _single(truth)
    still = _answers(truth, pictures, None)
    strict = narrow(truth, still)
    probability, logit = strict.probability, strict.logit
    for seed in range(_TREMORS):
        unrest = compare(still, _answers(truth, pictures, np.random.default_rng(seed)))
        probability = max(probability, _MARGIN * unrest.probability_difference)
        logit = max(logit, _MARGIN * unrest.logit_difference)
    return replace(
        strict,
        probability=min(probability, _MOST_PROBABILITY),
        logit=min(logit, _MOST_LOGIT),
    )


def _answers(
    truth: Truth, pictures: Sequence[Pixels], tremor: np.random.Generator | None
) -> Answers:
    pairs = (truth.answers(crops, tremor) for crops in pictures)
    return stacked([(probabilities.mean(axis=0), logits) for probabilities, logits in pairs])


def _single(truth: Truth) -> Tolerance:
    """What is allowed in single precision."""
    return of_classes(truth.classes)


def narrow(truth: Truth, said: Answers) -> Tolerance:
    """How far the adopted graph may be from the file when both are fed the same numbers.

    Where the file's numbers are halves, as far as their last bit: ``said`` are its answers.
    """
    strict = _single(truth)
    if not truth.halves:
        return strict
    logits = said.logits.astype(np.float64)
    deviation = np.maximum(logits.std(axis=-1), np.finfo(np.float32).tiny)
    ulp = np.spacing(np.abs(logits).max(axis=-1).astype(np.float16)).astype(np.float64)
    # dp = p (1 - p) dlogit, and two logits may move against each other
    probability = float(ulp.max()) / 2
    if not truth.tail.has_logits:  # the probabilities are rounded as well, by a share of each
        ulp += _HALF_ULP
        probability += float(np.spacing(np.float16(said.probabilities.max())))
    return replace(
        strict,
        probability=max(MAX_PROBABILITY_DIFFERENCE, probability),
        logit=max(MAX_LOGIT_DIFFERENCE, float((ulp / deviation).max())),
    )


def stacked(pairs: Sequence[tuple[Floats, Floats]]) -> Answers:
    """Answers of (probabilities [classes], logits [crops, classes]) per picture."""
    probabilities, logits = (np.stack(side).astype(np.float32) for side in zip(*pairs, strict=True))
    return Answers(probabilities, logits)
