"""Measure how far a graph of less precision agrees with the graph in single precision."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from export.precision.crops import Crops

Array = npt.NDArray[np.float32]

CONFIDENT = 0.5
"""Probability of the first class, from which on a crop counts as an easy one."""
_CHUNK = 8
_SLICES, _RUNS = 15, 8
"""Of the comparison of speed: slices, and runs of a graph in each."""


@dataclass(frozen=True)
class Agreement:
    """How far two graphs agree on the same crops, the first being in single precision."""

    crops: int
    top1: float
    """Share of the crops with the same first class."""
    confident: float
    """The same among the crops whose first class has ``CONFIDENT`` or more in the first graph."""
    confident_crops: int
    max_difference: float
    """max |dp|, over crops and classes."""
    mean_difference: float
    """Mean over the crops of the |dp| of the first class."""
    noise_db: float
    """Power of the logits over that of their difference, both without the crop's mean, in dB."""


def compare(reference: Array, measured: Array) -> Agreement:
    """Compare logits [N, classes]; crops with a number that is not finite agree with nothing."""
    expected, got = _softmax(reference), _softmax(measured)
    first = reference.argmax(axis=1)
    rows = np.arange(len(first))
    same = (measured.argmax(axis=1) == first) & np.isfinite(measured).all(axis=1)
    sure = expected[rows, first] >= CONFIDENT
    difference = np.abs(np.nan_to_num(got, nan=2.0) - expected)
    return Agreement(
        crops=len(first),
        top1=float(same.mean()),
        confident=float(same[sure].mean()) if sure.any() else 0.0,
        confident_crops=int(sure.sum()),
        max_difference=float(difference.max()),
        mean_difference=float(difference[rows, first].mean()),
        noise_db=-10 * float(np.log10(max(noise(reference, measured), 1e-30))),
    )


def noise(reference: Array, measured: Array) -> float:
    """Return the power of the difference of logits [N, classes] over their own power."""
    wide = reference.astype(np.float64)
    wide -= wide.mean(axis=1, keepdims=True)
    other = measured.astype(np.float64)
    other -= other.mean(axis=1, keepdims=True)
    return float(np.square(other - wide).sum() / max(np.square(wide).sum(), 1e-30))


def logits(session: ort.InferenceSession, crops: Crops) -> Array:
    """Return the logits float32 [N, classes] of crops uint8 [N, H, W, C]."""
    most = session.get_inputs()[0].shape[0]
    size = most if isinstance(most, int) else _CHUNK
    parts = [
        session.run(["logits"], {"pixels": crops[start : start + size]})[0]
        for start in range(0, len(crops), size)
    ]
    found: Array = np.concatenate(parts)
    return found


def ratios(
    reference: ort.InferenceSession, measured: ort.InferenceSession, crop: Crops
) -> list[float]:
    """Return how many times faster ``measured`` is than ``reference``, by alternating slices."""
    sessions = (reference, measured)
    for one in sessions * 3:
        one.run(None, {"pixels": crop})
    found = []
    for _ in range(_SLICES):
        seconds = []
        for one in sessions:
            start = time.perf_counter()
            for _ in range(_RUNS):
                one.run(None, {"pixels": crop})
            seconds.append(time.perf_counter() - start)
        found.append(seconds[0] / seconds[1])
    return found


def speedup(reference: ort.InferenceSession, measured: ort.InferenceSession, crop: Crops) -> float:
    """Return the median of `ratios`: above 1, ``measured`` is faster."""
    return statistics.median(ratios(reference, measured, crop))


def _softmax(rows: Array) -> npt.NDArray[np.float64]:
    with np.errstate(invalid="ignore"):
        powers = np.exp(rows.astype(np.float64) - rows.max(axis=1, keepdims=True))
        shares: npt.NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
        return shares
