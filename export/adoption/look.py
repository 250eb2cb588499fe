"""Signs by which the numbers of an output are told apart: a row [classes] for each picture.

Logits cannot be told from other numbers with certainty. The user is shown these signs and decides;
the proof records them.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Wide = npt.NDArray[np.float64]

_EQUAL = 1e-3
"""How far lengths or sums may be apart, as a share, to be the same number: single and half
precision round by less."""
_MANY = 10
"""Fewer classes than this say nothing by how flat or how low their numbers are."""
_FLAT = 2.0
"""A largest probability below this many times chance does not stand out."""
_LOW = -1.0
"""Mean over the classes, in standard deviations over them, below which numbers are low.

The gradient of softmax and cross entropy adds up to 0 over the classes, so training leaves the
mean of the logits where it began, near 0. The logits of a sigmoid sink the rarer
its classes are."""


def constant_sum(rows: Wide) -> float | None:
    """Return the sum that all rows have, if none has a negative number; else None."""
    sums = rows.sum(axis=1)
    mean = float(sums.mean())
    if (rows < 0).any() or mean <= 0 or np.ptp(sums) > 2 * _EQUAL * mean:
        return None
    return mean


def are_logarithms(rows: Wide) -> bool:
    """Whether the rows are logarithms of probabilities that add up to 1."""
    with np.errstate(over="ignore"):
        return bool((rows <= _EQUAL).all() and np.abs(np.exp(rows).sum(axis=1) - 1).max() <= _EQUAL)


def are_shares(rows: Wide) -> bool:
    """Whether all numbers lie from 0 to 1 and differ between pictures, as behind a sigmoid."""
    return bool((rows >= 0).all() and (rows <= 1).all() and _differ(rows))


def have_one_length(rows: Wide) -> bool:
    """Whether all rows have the same Euclidean length, as normalised embeddings have."""
    lengths = np.linalg.norm(rows, axis=1)
    return bool(lengths.mean() > 0 and np.ptp(lengths) <= _EQUAL * lengths.mean())


def are_sorted(rows: Wide) -> bool:
    """Whether every row falls from its first number to its last: best classes, in their order.

    Five numbers or more: fewer can be in that order by chance.
    """
    return bool(
        rows.shape[1] >= 5
        and (np.diff(rows, axis=1) <= 0).all()
        and (rows[:, 0] > rows[:, -1]).all()
    )


def _differ(rows: Wide) -> bool:
    return bool(np.ptp(rows, axis=0).max() > 0)


def doubts(rows: Wide) -> tuple[str, ...]:
    """Return what speaks against logits of classes that exclude each other, a phrase each.

    Rows that are all the same say nothing of this: their proof fails.
    """
    found: list[str] = []
    classes = rows.shape[1]
    if not _differ(rows):
        return ()
    if have_one_length(rows):
        length = float(np.linalg.norm(rows, axis=1).mean())
        found.append(f"every row has the length {length:.3g}, as a normalised embedding has")
    if classes < _MANY:
        return tuple(found)
    if (rows >= 0).all():
        found.append("no number is below 0, as of features behind a ReLU")
    powers = np.exp(rows - rows.max(axis=1, keepdims=True))
    largest = float(np.median(1 / powers.sum(axis=1)))
    if largest < _FLAT / classes:
        found.append(
            f"no class stands out (a softmax gives the first {largest:.2g}, chance is "
            f"{1 / classes:.2g}), as of an embedding"
        )
    spread = np.maximum(rows.std(axis=1), np.finfo(np.float64).tiny)
    if float(np.median(rows.mean(axis=1) / spread)) < _LOW:
        above = float((rows > 0).sum(axis=1).mean())
        found.append(
            f"of {classes} numbers {above:.1f} are above 0 and the rest far below, as of classes "
            "that do not exclude each other"
        )
    return tuple(found)
