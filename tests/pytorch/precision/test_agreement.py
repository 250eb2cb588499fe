"""What a report of int8 says of its noise."""

from __future__ import annotations

import numpy as np
import pytest

from export.precision import agreement


@pytest.mark.parametrize(("share", "decibels"), [(1.0, 0.0), (0.1, 20.0), (0.01, 40.0)])
def test_noise_is_in_decibels_of_power(share: float, decibels: float) -> None:
    """A difference of a tenth of the logits is a hundredth of their power: 20 dB."""
    reference = np.random.default_rng(7).normal(size=(20, 10)).astype(np.float32)
    measured = reference * (1 + share)
    assert agreement.compare(reference, measured).noise_db == pytest.approx(decibels, abs=0.01)
    shifted = measured + 5  # what softmax ignores is no noise
    assert agreement.compare(reference, shifted).noise_db == pytest.approx(decibels, abs=0.01)


def test_how_far_probabilities_are_apart() -> None:
    reference = np.log(np.array([[0.7, 0.2, 0.1], [0.2, 0.5, 0.3], [0.4, 0.3, 0.3]], np.float32))
    measured = np.log(np.array([[0.6, 0.1, 0.3], [0.6, 0.3, 0.1], [0.4, 0.3, 0.3]], np.float32))
    found = agreement.compare(reference, measured)
    assert (found.crops, found.confident_crops) == (3, 2)
    assert found.top1 == pytest.approx(2 / 3)
    assert found.confident == 0.5
    assert found.max_difference == pytest.approx(0.4, abs=1e-6)
    assert found.mean_difference == pytest.approx((0.1 + 0.2 + 0) / 3, abs=1e-6)
