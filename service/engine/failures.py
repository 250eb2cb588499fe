"""Decides what a failed run of a network means, and acts on it.

- Out of memory: the batch is halved and run again, and no batch of that size is formed any more.
- A sticky error: after an illegal access, for example, the CUDA context of the process is lost and
  every later call fails. Only a new process helps, so this one ends at once and its supervisor
  starts another.
- Any other error is raised, and concerns this batch alone.
"""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Callable
from enum import Enum

import numpy as np

from service.engine.outputs import Outputs
from service.imaging.crops import Crops

logger = logging.getLogger("zoo.device")

EXIT_CODE = 70
"""EX_SOFTWARE of sysexits.h: the process ended itself because its device was lost."""

# cudaError_t that leave the context unusable (CUDA Runtime API, section 6.41): ECC error,
# illegal address, launch time-out, context destroyed, assert, hardware stack, illegal instruction,
# misaligned address, invalid address space, invalid program counter, launch failure, unknown.
STICKY_CODES = (214, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719, 999)
_STICKY = re.compile(
    rf"\bCUDA (?:failure|error) (?:{'|'.join(map(str, STICKY_CODES))})\b"
    r"|illegal memory access|unspecified launch failure|device-side assert"
    r"|misaligned address|illegal instruction was encountered|uncorrectable ECC",
    re.IGNORECASE,
)
_OUT_OF_MEMORY = re.compile(
    r"\bCUDA (?:failure|error) 2\b|out of memory|Failed to allocate memory"
    r"|Available memory of \d+ is smaller than requested|_STATUS_ALLOC_FAILED|bad_alloc",
    re.IGNORECASE,
)


class Failure(Enum):
    """The kinds of failure of a run."""

    OUT_OF_MEMORY = "out of memory"
    STICKY = "device lost"
    OTHER = "other"


def classify(error: BaseException) -> Failure:
    """Return the kind of failure by the error's text: ONNX Runtime has no type for any kind."""
    text = str(error)
    if _STICKY.search(text):
        return Failure.STICKY
    if isinstance(error, MemoryError) or _OUT_OF_MEMORY.search(text):
        return Failure.OUT_OF_MEMORY
    return Failure.OTHER


def end_process(error: BaseException) -> None:
    """Log the error and end this process at once; its connections break."""
    logger.critical("the device is lost, this process ends with code %d: %s", EXIT_CODE, error)
    logging.shutdown()
    os._exit(EXIT_CODE)


class Guard:
    """Runs batches and handles their failures as this module says. Safe to use from any thread."""

    def __init__(
        self,
        run: Callable[[Crops], Outputs],
        *,
        shrunk: Callable[[int], None] = lambda _: None,
        lost: Callable[[], bool] = lambda: False,
        max_batch: int | None = None,
        end: Callable[[BaseException], None] = end_process,
    ) -> None:
        """``run`` computes a batch of at most ``max_batch`` crops (None: any number).

        When the device runs out of memory, ``shrunk`` is told the new limit, in that thread. After
        a failure whose text says nothing, ``lost`` tells whether the device is lost; then ``end``
        ends the process.
        """
        self.max_batch = max_batch
        """Most crops of one run; None: no limit is known."""
        self._run = run
        self._shrunk = shrunk
        self._lost = lost
        self._end = end
        self._lock = threading.Lock()

    def run(self, crops: Crops, run: Callable[[Crops], Outputs] | None = None) -> Outputs:
        """Compute all crops, in pieces where they do not fit. Raises what the last try raised.

        ``run`` replaces the function that was given to the constructor.
        """
        step = self.max_batch or len(crops)
        if len(crops) > step:
            pieces = [self.run(crops[at : at + step], run) for at in range(0, len(crops), step)]
            return Outputs(*map(np.concatenate, zip(*pieces, strict=True)))
        try:
            return (run or self._run)(crops)
        except Exception as error:
            failure = classify(error)
            if failure is Failure.STICKY or (failure is Failure.OTHER and self._lost()):
                self._end(error)
                raise
            if failure is Failure.OTHER or len(crops) == 1:
                raise
            self._shrink(len(crops) // 2, error)
        return self.run(crops, run)

    def _shrink(self, most: int, error: Exception) -> None:
        with self._lock:
            if self.max_batch is not None and self.max_batch <= most:
                return
            self.max_batch = most
            self._shrunk(most)
        logger.warning("out of memory: batches have at most %d crops from now on: %s", most, error)
