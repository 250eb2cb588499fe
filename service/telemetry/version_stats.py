"""Counts what each version of a model has done since the service started, over all workers.

Triton's statistics need it: Prometheus' histograms know neither versions nor exact batch sizes. So
each worker keeps a file per version in the folder that the workers share, mapped into memory. To
add to it costs some microseconds, and any worker can sum up the files of all. The process that
replaces a dead worker goes on in its files; BentoML empties the folder at start.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from mmap import mmap
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from service.config.settings import MOST_BATCH
from service.telemetry import multiprocess
from service.telemetry.value_files import reserve, shared_folder

logger = logging.getLogger("zoo.statistics")

_NANO = 1e9
_SUFFIX = ".stats"
_BATCH_VALUES = 3
"""Numbers kept per batch size: executions, nanoseconds of input, nanoseconds of inference."""


@dataclass(frozen=True, slots=True)
class Duration:
    """How often something was done, and the nanoseconds that it took in total."""

    count: int = 0
    ns: int = 0


class Batches(NamedTuple):
    """The time that all batches of one size, in crops, took."""

    crops: int
    compute_input: Duration
    compute_infer: Duration
    compute_output: Duration


class Statistics(NamedTuple):
    """The sums over all workers for one version."""

    last_ms: int
    """When the last request was answered, in milliseconds since 1970; 0: never."""
    inferences: int
    """Pictures, or ready-made crops, that were answered."""
    success: Duration
    """Requests that were answered."""
    fail: Duration
    """Requests that failed or were cancelled."""
    queue: Duration
    """Like the three below counted per picture, or per request of ready-made crops."""
    compute_input: Duration
    compute_infer: Duration
    compute_output: Duration
    batches: list[Batches]
    """One entry per batch size that was run, the smallest first."""

    @property
    def executions(self) -> int:
        """How many batches went to the device."""
        return sum(batch.compute_infer.count for batch in self.batches)


class Spent(NamedTuple):
    """Seconds that an answered request spent, summed over its ``parts``: its pictures, or one for a
    request of ready-made crops.
    """

    parts: int = 0
    compute_input: float = 0.0
    queue: float = 0.0
    compute_infer: float = 0.0
    compute_output: float = 0.0


_HEAD = 14
"""Numbers before those of the batches: when the last answer was given (ms since 1970), inferences,
then count and nanoseconds of success, fail, queue, input, inference and output."""
_SIZE = _HEAD + (MOST_BATCH + 1) * _BATCH_VALUES


class Record:
    """This process' share of one version's statistics. Safe to use from any thread."""

    def __init__(self, name: str, version: str) -> None:
        """Map this process' file, or count in memory alone where it cannot have one."""
        self.values = memoryview(_mapped(f"{name}.{version}")).cast("q")
        """int64 [`_SIZE`], in the order of `_HEAD`, then `_BATCH_VALUES` for each batch size."""
        self._lock = threading.Lock()

    def succeeded(self, inferences: int, seconds: float, spent: Spent, ended: float) -> None:
        """Count a request that was answered after ``seconds``.

        ``inferences`` is its number of pictures or crops, ``ended`` the moment, in seconds since
        1970.
        """
        values, parts = self.values, spent.parts
        with self._lock:
            values[0] = int(1e3 * ended)
            values[1] += inferences
            values[2] += 1
            values[3] += int(_NANO * seconds)
            values[6] += parts
            values[7] += int(_NANO * spent.queue)
            values[8] += parts
            values[9] += int(_NANO * spent.compute_input)
            values[10] += parts
            values[11] += int(_NANO * spent.compute_infer)
            values[12] += parts
            values[13] += int(_NANO * spent.compute_output)

    def failed(self, seconds: float) -> None:
        """Count a request that failed, or was cancelled, after ``seconds``."""
        with self._lock:
            self.values[4] += 1
            self.values[5] += int(_NANO * seconds)

    def ran(self, crops: int, input_s: float, infer_s: float) -> None:
        """Count a batch of ``crops`` crops: seconds to put it together, and to compute it.

        Its outputs are views, which take no time.
        """
        row = _HEAD + crops * _BATCH_VALUES
        with self._lock:
            self.values[row] += 1
            self.values[row + 1] += int(_NANO * input_s)
            self.values[row + 2] += int(_NANO * infer_s)


_records: dict[tuple[str, str], Record] = {}


def record(name: str, version: str) -> Record:
    """Return the one record that this process has of a version, which is an open file."""
    found = _records.get((name, version))
    return _records.setdefault((name, version), Record(name, version)) if found is None else found


def only(versions: set[tuple[str, str]]) -> None:
    """Close the records of all but these (model, version), since the others are gone.

    What their files hold stays counted. A request that still has a record may go on with it.
    """
    if shared_folder() is not None:
        for gone in _records.keys() - versions:
            del _records[gone]


def of(name: str, version: str) -> Statistics:
    """Return a version's sums over all workers, those that ended included. Blocks for some ms."""
    folder = shared_folder()
    if folder is None:
        known = _records.get((name, version))
        return _summed([] if known is None else [np.array(known.values)])
    paths = folder.glob(f"{name}.{version}.*{_SUFFIX}")
    workers = [np.fromfile(path, np.int64) for path in paths]
    return _summed([values for values in workers if values.size == _SIZE])


def _mapped(name: str) -> bytearray | mmap:
    """Map this worker's file, which is all zeros, or what the worker before it has counted.

    Where the file cannot be had, that is logged, and memory of this process stands in for it.
    """
    folder = shared_folder()
    if folder is not None:
        try:
            path = folder / f"{name}.{multiprocess.place()}{_SUFFIX}"
            with path.open("a+b") as file:
                # room is reserved: on a full disk a write into a hole would end the process
                reserve(file.fileno(), 8 * _SIZE)
                return mmap(file.fileno(), 8 * _SIZE)
        except OSError as error:
            logger.error(
                "%s cannot be written: %s; other workers do not know what this one counts",
                folder / name,
                error.strerror,
            )
    return bytearray(8 * _SIZE)


def _summed(workers: list[npt.NDArray[np.int64]]) -> Statistics:
    if not workers:
        workers = [np.zeros(_SIZE, np.int64)]
    total: npt.NDArray[np.int64] = np.stack(workers).sum(axis=0)
    _, inferences, *rest = total[:_HEAD].tolist()
    success, fail, queue, input_, infer, output = map(Duration, rest[::2], rest[1::2])
    last_ms = max(int(values[0]) for values in workers)
    batches = [
        Batches(crops, Duration(count, input_ns), Duration(count, infer_ns), Duration(count, 0))
        for crops, (count, input_ns, infer_ns) in enumerate(
            total[_HEAD:].reshape(-1, _BATCH_VALUES).tolist()
        )
        if count
    ]
    return Statistics(last_ms, inferences, success, fail, queue, input_, infer, output, batches)
