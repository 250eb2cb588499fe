"""Writes all metrics of all workers in Prometheus' text format.

BentoML gives its workers a common PROMETHEUS_MULTIPROC_DIR and empties it at start. Each worker
writes there and any of them answers a scrape for all. What a worker wrote down stays when it dies,
its live gauges do not.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    generate_latest,
    multiprocess,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from service import metering, workers
from service.statistics import shared_folder

CONTENT_TYPE = CONTENT_TYPE_LATEST

_OF_VERSIONS = frozenset(
    f"zoo_model_{name}"
    for name in ("ready", "refused", "info", "fallback", "nodes", "max_batch", "bytes")
)
_IN_EVERY_WORKER = frozenset({"zoo_ready", "zoo_model_ready"})


def exposition() -> bytes:
    """The text; blocking, some milliseconds."""
    folder = shared_folder()
    registry = CollectorRegistry()
    if folder is None:
        registry.register(_OfToday(REGISTRY))
        return generate_latest(registry)
    _forget_dead_workers(folder)
    # prometheus-client has no type hints here
    registry.register(_OfToday(multiprocess.MultiProcessCollector(None)))  # type: ignore[no-untyped-call]
    registry.register(workers.ProcessMetrics())
    return generate_latest(registry)


class _OfToday:
    """What is collected, without the versions that are gone: its files forget nothing.

    What is 1 where it holds in every worker was added up: a worker that has not said anything
    yet, or is dead, is one in which it does not hold.
    """

    def __init__(self, collected: Collector) -> None:
        self._collected = collected

    def collect(self) -> Iterator[Metric]:
        for metric in self._collected.collect():
            if metric.name in _IN_EVERY_WORKER:
                metric.samples = [
                    sample._replace(value=float(sample.value >= metering.workers_wanted))
                    for sample in metric.samples
                ]
            if metric.name in _OF_VERSIONS:
                metric.samples = [
                    sample
                    for sample in metric.samples
                    if (sample.labels["model"], sample.labels["version"]) in metering.known
                    and (sample.value or metric.name != "zoo_model_info")
                ]
            yield metric


def forget_this_worker() -> None:
    """Take this process' live gauges out, at its orderly end."""
    if shared_folder() is not None:
        multiprocess.mark_process_dead(os.getpid())  # type: ignore[no-untyped-call]


def _forget_dead_workers(folder: Path) -> None:
    """Take out the live gauges of workers that were killed."""
    for path in folder.glob("gauge_live*_*.db"):
        pid = path.stem.rpartition("_")[2]
        if pid.isdigit() and not Path(f"/proc/{pid}").exists() and Path("/proc/self").exists():
            with suppress(OSError):
                path.unlink()
