"""Numbers the worker processes of a service, and reads their CPU and memory from /proc.

A worker takes the lowest number that no living worker has. So the worker that replaces a dead one
gets its number, and time series go on. Each number is a file in the folder of the metrics, which
BentoML empties at start. The files are made before anything is served, since the disk may be full
later.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import lru_cache, partial
from pathlib import Path

from prometheus_client import ProcessCollector
from prometheus_client.metrics_core import Metric

from service.config import cgroup
from service.config.processes import alone, identity, lives
from service.telemetry import value_files
from service.telemetry.value_files import shared_folder

_PREFIX = "worker."
_BYTES = 64
"""Bytes of the file of a number. It is written over and never cut, which needs no room on a full
disk."""
PROCESS_HELP = {
    "process_resident_memory_bytes": "Bytes of memory that a worker has in RAM, what it shares "
    "with other processes included. Worry when it rises for hours under the same load.",
    "process_virtual_memory_bytes": "Bytes of addresses that a worker has; mostly more than RAM, "
    "and no reason to worry.",
    "process_cpu_seconds_total": "Seconds of CPU that a worker has used; its rate is in cores.",
    "process_start_time_seconds": "When a worker started, in seconds since 1970.",
    "process_open_fds": "Files and connections that a worker has open. Worry when it comes near "
    "process_max_fds.",
    "process_max_fds": "The most that process_open_fds can be.",
}


@lru_cache(maxsize=1)
def place() -> int:
    """Take a number for this worker, from 0 on; 0 where workers share no folder. Raises OSError.

    The gauges that the former worker of this number has left are cleared.
    """
    folder = shared_folder()
    if folder is None:
        return 0
    with alone(folder / f"{_PREFIX}lock"):
        taken = dict(living(folder))
        number = next(number for number in range(len(taken) + 1) if number not in taken)
        value_files.clear_gauges(folder, number)
        _write(folder / f"{_PREFIX}{number}", identity(os.getpid()))
    return number


def prepare(folder: Path, count: int) -> None:
    """Make the files of ``count`` workers' numbers, before anything is served. Raises OSError."""
    with alone(folder / f"{_PREFIX}lock"):
        for number in range(count):
            _write(folder / f"{_PREFIX}{number}", "")


def living(folder: Path) -> Iterator[tuple[int, int]]:
    """Yield the number and the process id of every worker that lives."""
    for path in folder.glob(f"{_PREFIX}[0-9]*"):
        process = path.read_text().strip()
        if lives(process):
            yield int(path.name.removeprefix(_PREFIX)), int(process.partition("-")[0])


def memory_limit() -> int:
    """Return the bytes of memory that the container may take, or else that the machine has."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(machine, cgroup.memory_limit() or machine)


class ProcessMetrics:
    """The usual metrics of a process for every worker, with its number as the label `worker`."""

    def collect(self) -> Iterator[Metric]:
        """Read them from /proc now."""
        folder = shared_folder()
        found: dict[str, Metric] = {}
        for number, pid in sorted(living(folder)) if folder is not None else ():
            collector = ProcessCollector(pid=partial(int, pid), registry=None)
            for metric in collector.collect():
                name = metric.samples[0].name
                whole = found.setdefault(name, Metric(metric.name, PROCESS_HELP[name], metric.type))
                whole.add_sample(name, {"worker": str(number)}, metric.samples[0].value)
        yield from found.values()


def _write(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        os.pwrite(descriptor, text.ljust(_BYTES).encode(), 0)
    finally:
        os.close(descriptor)
