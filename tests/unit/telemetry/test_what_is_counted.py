"""Latencies are of answers alone, and each time of the statistics is that of its own stage."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from time import time

import numpy as np
import pytest

from service.errors import Overloaded
from service.telemetry import metrics, version_stats
from service.telemetry.request_metrics import RequestMetrics
from service.telemetry.version_stats import Spent


@pytest.fixture(autouse=True)
def records(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(version_stats, "_records", {})


def latencies(model: str) -> float:
    (family,) = metrics.REQUEST_SECONDS.collect()
    return sum(
        sample.value
        for sample in family.samples
        if sample.name == "zoo_request_seconds_count" and sample.labels["model"] == model
    )


@pytest.mark.parametrize(("fails", "answers"), [(True, 0), (False, 1)])
def test_a_refusal_is_no_quick_answer(
    fails: bool, answers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    name = f"latency-{fails}"
    with suppress(Overloaded), RequestMetrics(name, "http") as tally:
        tally.chosen(name, "1", "center")
        if fails:
            raise Overloaded("full")
    assert latencies(name) == answers
    found = version_stats.of(name, "1")
    assert (found.success.count, found.fail.count) == (answers, 1 - answers)


def test_each_time_is_that_of_its_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    with RequestMetrics("stages", "http") as tally:
        tally.chosen("stages", "1", "center")
        stages = {"decode": 1.0, "preprocess": 2.0, "queue": 5.0, "inference": 7.0}
        tally.picture({**stages, "total": 16.0}, 0.5)
        tally.computed(4, Spent(1, 0.0, 10.0, 20.0))
    found = version_stats.of("stages", "1")
    second = 1_000_000_000
    assert found.compute_input.ns == 3 * second  # decoded and cut
    assert found.queue.ns == 15 * second
    assert found.compute_infer.ns == 27 * second
    assert found.compute_output.ns == second // 2
    assert found.inferences == 5


def test_sums_over_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts add up; the last answer is that of whoever answered last."""
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    before = time()
    record = version_stats.record("net", "1")
    record.succeeded(3, 2.0, Spent(3, 1.0, 1.0, 1.0, 1.0), time())
    record.ran(3, 0.25, 1.5)
    after = time()
    (own,) = tmp_path.glob("net.1.*.stats")
    values = np.fromfile(own, np.int64)
    values[0] = 7  # of a worker that answered in 1970
    values.tofile(tmp_path / "net.1.99.stats")
    found = version_stats.of("net", "1")
    assert 1e3 * before - 1 <= found.last_ms <= 1e3 * after
    assert (found.success.count, found.inferences, found.executions) == (2, 6, 2)
    (batch,) = found.batches
    assert batch.crops == 3
    assert (batch.compute_input.ns, batch.compute_infer.ns) == (500_000_000, 3_000_000_000)
