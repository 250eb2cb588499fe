"""Writes all metrics of all workers in Prometheus' text format.

BentoML gives its workers a common PROMETHEUS_MULTIPROC_DIR and empties it at start. Each worker
writes there (`value_files`), and any of them answers a scrape for all. What a worker wrote down
stays when it dies, its gauges do not.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import isfinite
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
from prometheus_client.samples import Sample

from service.telemetry import metrics, value_files
from service.telemetry.model_metrics import ModelMetrics
from service.telemetry.multiprocess import ProcessMetrics, living
from service.telemetry.value_files import shared_folder

CONTENT_TYPE = CONTENT_TYPE_LATEST

_OF_VERSIONS = frozenset(
    metric.name for family in metrics.OF_VERSIONS for metric in family.describe()
)
_IN_EVERY_WORKER = frozenset({"zoo_ready", "zoo_model_ready"})


def exposition(models: ModelMetrics) -> bytes:
    """The text, of the ``models`` that there are; blocking, some milliseconds."""
    folder = shared_folder()
    registry = CollectorRegistry()
    if folder is None:
        registry.register(_OfToday(REGISTRY, models))
        return generate_latest(registry)
    registry.register(_OfToday(_Files(folder), models))
    registry.register(ProcessMetrics())
    return generate_latest(registry)


class _Files:
    """What all workers wrote down, without the gauges of the dead."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def collect(self) -> Iterator[Metric]:
        numbers = [number for number, _ in living(self._folder)]
        files = value_files.files(self._folder, numbers)
        # prometheus-client has no type hints here
        yield from multiprocess.MultiProcessCollector.merge(files)  # type: ignore[no-untyped-call]


class _OfToday:
    """What is collected, without the versions that are gone: its files forget nothing.

    What is 1 where it holds in every worker was added up: a worker that has not said anything
    yet, or is dead, is one in which it does not hold.
    """

    def __init__(self, collected: Collector, models: ModelMetrics) -> None:
        self._collected = collected
        self._models = models

    def collect(self) -> Iterator[Metric]:
        for metric in self._collected.collect():
            if metric.name in _IN_EVERY_WORKER:
                metric.samples = [
                    sample._replace(value=float(sample.value >= self._models.workers))
                    for sample in metric.samples
                ]
            if metric.name in _OF_VERSIONS:
                metric.samples = [each for each in metric.samples if self._holds(metric, each)]
            yield metric

    def _holds(self, metric: Metric, sample: Sample) -> bool:
        """Whether what a sample says of a version still holds."""
        model, version = sample.labels["model"], sample.labels["version"]
        if version != metrics.UNKNOWN and (model, version) not in self._models.known:
            return False
        if metric.name == "zoo_model_info" and not sample.value:  # another series took its place
            return False
        return isfinite(sample.value)  # else no worker says it any more
