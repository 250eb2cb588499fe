"""What is shown of the values that all workers wrote down: what holds today, in every worker."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
from prometheus_client.metrics_core import Metric

from service.config.settings import Settings
from service.telemetry import exporter, metrics
from service.telemetry.model_metrics import ModelMetrics


class Written:
    """Stands for the files of the workers, whose gauges were added up."""

    def __init__(self, name: str, values: dict[tuple[str, str], float]) -> None:
        self._name = name
        self._values = values

    def collect(self) -> Iterator[Metric]:
        metric = Metric(self._name, "x", "gauge")
        for (model, version), value in self._values.items():
            metric.add_sample(self._name, {"model": model, "version": version}, value)
        yield metric


def shown(
    name: str, values: dict[tuple[str, str], float], model: tuple[str, str], workers: int = 1
) -> dict[tuple[str, str], float]:
    models = ModelMetrics(Settings(workers=workers))
    models.known.add(model)
    (metric,) = exporter._OfToday(Written(name, values), models).collect()
    return {(each.labels["model"], each.labels["version"]): each.value for each in metric.samples}


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_a_model_is_ready_once_it_is_in_every_worker(workers: int) -> None:
    model = ("net", "1")
    for ready in range(workers + 1):
        found = shown("zoo_model_ready", {model: float(ready)}, model, workers)
        assert found == {("net", "1"): float(ready == workers)}


def test_versions_that_are_gone_are_not_shown() -> None:
    model = ("net", "2")
    values = {("net", "1"): 7.0, ("net", "2"): 8.0, ("other", "2"): 9.0}
    assert shown("zoo_model_bytes", values, model) == {model: 8.0}
    # of what is unknown requests are counted too, and where no worker says a least it is none
    unknown = (metrics.UNKNOWN, metrics.UNKNOWN)
    assert shown("zoo_model_bytes", {unknown: 3.0}, model) == {unknown: 3.0}
    assert shown("zoo_model_bytes", {model: math.inf}, model) == {}
