"""How many layers stay in single precision: as few as agree."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

import onnx

from export.precision import agreement, calibrate
from export.precision.agreement import Agreement
from export.precision.crops import Crops

TARGET = 0.99
_MARGIN = 0.002
"""More than the target is asked for on the crops that decide, which the proof does not use."""
_NEAR = 0.005


class Mixture(Protocol):
    """A graph whose layers can be put back into single precision."""

    ranking: list[str]
    """In the order in which they are."""

    def model(self, left_in_float: int) -> onnx.ModelProto:
        """The graph with that many layers in single precision."""


def choose(
    mixture: Mixture,
    reference: agreement.Array,
    crops: Crops,
    *,
    target: float = TARGET,
    session: Callable[[onnx.ModelProto], calibrate.Session],
    report: Callable[[str], None] = lambda _: None,
) -> int:
    """The fewest layers in single precision with ``target`` on ``crops``.

    ``reference`` are the logits of the graph in single precision. Where no number will do, the
    fewest within ``_NEAR`` of the best: floats that gain next to nothing are not worth their time.
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
    """Numbers of layers in floats that are worth a try: 0, 1, 2, 3, 4, 6, 8, 12, …"""
    number = 0
    while number <= most:
        yield number
        number += 1 if number < 4 else 2 if number < 8 else 4
