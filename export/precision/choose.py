"""Choose how many layers stay in single precision: as few as still agree."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

import onnx

from export.precision import agreement, calibrate
from export.precision.agreement import Agreement
from export.precision.crops import Crops

TARGET = 0.99
_MARGIN = 0.002
"""Added to the target on the crops that decide, because the proof uses other crops."""
_NEAR = 0.005


class Mixture(Protocol):
    """A graph whose layers can be put back into single precision."""

    ranking: list[str]
    """Names of the layers, in the order in which they are put back."""

    def model(self, left_in_float: int) -> onnx.ModelProto:
        """Return the graph with that many layers in single precision."""


def choose(
    mixture: Mixture,
    reference: agreement.Array,
    crops: Crops,
    *,
    target: float = TARGET,
    session: Callable[[onnx.ModelProto], calibrate.Session],
    report: Callable[[str], None] = lambda _: None,
) -> int:
    """Return the fewest layers in single precision that reach ``target`` on ``crops``.

    ``reference`` holds the logits of the graph in single precision. Where no number reaches it,
    return the fewest within ``_NEAR`` of the best: more floats would gain next to nothing.
    """
    tried: dict[int, Agreement] = {}
    for number in steps(len(mixture.ranking) // 2):
        logits = agreement.logits(session(mixture.model(number)), crops)
        found = agreement.compare(reference, logits)
        tried[number] = found
        report(f"{number} layers in floats: {found.top1:.2%} of {found.crops} crops agree")
        if found.top1 >= min(1.0, target + _MARGIN):
            return number
    best = max(found.top1 for found in tried.values())
    return min(number for number, found in tried.items() if found.top1 >= best - _NEAR)


def steps(most: int) -> Iterator[int]:
    """Yield the numbers of layers in floats to try, up to ``most``: 0, 1, 2, 3, 4, 6, 8, 12, …"""
    number = 0
    while number <= most:
        yield number
        number += 1 if number < 4 else 2 if number < 8 else 4
