"""Estimate how much something grows per hour, and how sure that is.

Memory at one moment depends on memory the moment before, so samples say less than their number
suggests, and a plain regression is sure of trends that are none. Here the errors of a straight
line are an autoregression of first order: its coefficient is estimated from the residuals,
corrected for what estimation from few samples takes off it, and the line is fitted to what is
left when it is taken out (Prais and Winsten 1954). A coefficient near 1 is taken for 1, a walk
without a home, else chance looks like growth (Perron and Yabu 2009). Each process has a level of
its own; the slope is common to all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Series = tuple[Sequence[float], Sequence[float]]
"""Times and values of one process, at equal distances."""
Floats = npt.NDArray[np.float64]

FEWEST = 8
"""Samples of a process, below which it says nothing about a trend."""
_ROUNDS = 20
_MOST = 0.9999
"""Instead of 1, for which no level could be told."""
_CONFIDENCE = 0.95


class Slope(NamedTuple):
    """Growth per unit of time, its 95 % interval, and what it was estimated from."""

    value: float
    low: float
    high: float
    samples: int
    persistence: float
    """The coefficient of the autoregression: what is left of a deviation a sample later, 0 to 1."""

    def __str__(self) -> str:
        return f"{self.value:+.2f} ({self.low:+.2f} to {self.high:+.2f})"


def slope(series: Sequence[Series]) -> Slope | None:
    """Estimate the common slope; None where no process has samples enough."""
    pairs = [
        (np.asarray(times, float), np.asarray(values, float))
        for times, values in series
        if len(times) >= FEWEST
    ]
    if not pairs:
        return None
    persistence = 0.0
    for _ in range(_ROUNDS):
        fit = _fit(pairs, persistence)
        estimated = _persistence(pairs, fit.value)
        if abs(estimated - persistence) < 1e-6:
            break
        persistence = estimated
    return _fit(pairs, persistence)


def _persistence(pairs: Sequence[tuple[Floats, Floats]], value: float) -> float:
    """Return the coefficient of the residuals of a line with this slope."""
    before, after = [], []
    for times, values in pairs:
        residuals = values - value * times
        residuals = residuals - residuals.mean()
        before.append(residuals[:-1])
        after.append(residuals[1:])
    x, y = np.concatenate(before), np.concatenate(after)
    power = float(x @ x)
    found = float(x @ y) / power if power else 0.0
    # least squares finds less than there is: by (2 + 4 * found) / samples beside a trend
    count = len(x) / len(pairs)
    corrected = max((found * count + 2) / (count - 4), 0.0)
    return corrected if np.sqrt(count) * (1 - corrected) > 1 else _MOST


def _fit(pairs: Sequence[tuple[Floats, Floats]], persistence: float) -> Slope:
    rows, targets = [], []
    for number, (times, values) in enumerate(pairs):
        levels = np.zeros((len(times), len(pairs)))
        levels[:, number] = 1.0
        rows.append(_taken_out(np.column_stack((times - times.mean(), levels)), persistence))
        targets.append(_taken_out(values[:, None], persistence)[:, 0])
    x, y = np.concatenate(rows), np.concatenate(targets)
    solution = np.linalg.lstsq(x, y, rcond=None)[0]
    residuals = y - x @ solution
    free = max(len(y) - len(pairs) - 2, 1)
    error = float(np.sqrt(residuals @ residuals / free * np.linalg.inv(x.T @ x)[0, 0]))
    reach = error * NormalDist().inv_cdf((1 + _CONFIDENCE) / 2)
    value = float(solution[0])
    return Slope(value, value - reach, value + reach, len(y), persistence)


def _taken_out(columns: Floats, persistence: float) -> Floats:
    """Return each sample less the share that persists of the one before, equally certain."""
    rest = columns[1:] - persistence * columns[:-1]
    first: Floats = columns[:1] * np.sqrt(1 - persistence**2)
    return np.concatenate((first, rest))
