"""What all parts of the engine share: the outputs of a network, and the error of a broken one."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class Outputs(NamedTuple):
    """What the graph yields for N crops."""

    probabilities: npt.NDArray[np.float32]
    """float32 [N, classes]."""
    logits: npt.NDArray[np.float32]
    """float32 [N, classes]."""


class BrokenModelError(Exception):
    """The model's files cannot be served; the message says why, for the operator."""
