"""How many layers stay in floats, and when two answers agree: on numbers, without a network."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import onnx
import pytest

from export.precision import agreement, choose, crops


class Told:
    """A session with given answers, and the graph that they belong to."""

    def __init__(self, logits: agreement.Array) -> None:
        self.logits = logits

    def get_inputs(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(shape=["N", 1, 1, 1])]

    def run(self, _outputs: list[str], feeds: dict[str, crops.Crops]) -> list[agreement.Array]:
        return [self.logits[feeds["pixels"][:, 0, 0, 0]]]


class Mixture:
    """Sixteen layers; ``agree`` of 100 crops agree with as many of them in floats."""

    def __init__(self, agree: dict[int, int]) -> None:
        self.agree = agree
        self.ranking = [f"layer {index}" for index in range(16)]

    def model(self, left_in_float: int) -> onnx.ModelProto:
        return onnx.ModelProto(model_version=left_in_float)

    def session(self, model: onnx.ModelProto) -> Told:
        logits = REFERENCE.copy()
        logits[self.agree[model.model_version] :] *= -1
        return Told(logits)


REFERENCE = np.tile(np.array([3, 1, -2], np.float32), (100, 1))


@pytest.mark.parametrize(
    ("agree", "chosen"),
    [
        ({0: 100}, 0),
        ({0: 98, 1: 99, 2: 99, 3: 100}, 3),  # the target and a little more
        ({0: 90, 1: 91, 2: 93, 3: 96, 4: 96, 6: 95, 8: 94}, 3),  # none will do
        ({0: 90, 1: 91, 2: 93, 3: 95, 4: 95, 6: 95, 8: 96}, 8),
    ],
)
def test_as_few_layers_in_floats_as_reach_the_target(agree: dict[int, int], chosen: int) -> None:
    mixture = Mixture(agree)
    given = np.arange(100, dtype=np.uint8).reshape(100, 1, 1, 1)
    found = choose.choose(mixture, REFERENCE, given, target=0.99, session=mixture.session)
    assert found == chosen


@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_agrees_with_nothing(value: float) -> None:
    measured = REFERENCE.copy()
    measured[:7, 0] = value  # argmax finds it first, where the reference has its best
    assert (measured.argmax(axis=1) == REFERENCE.argmax(axis=1)).all()
    found = agreement.compare(REFERENCE, measured)
    assert (found.top1, found.confident) == (0.93, 0.93)
    assert found.max_difference > 0.5
