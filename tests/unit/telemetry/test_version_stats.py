"""The files of statistics: those of versions that are gone stay counted, but not open."""

from __future__ import annotations

import asyncio
import gc
import os
from contextlib import suppress
from pathlib import Path

import pytest

from service.errors import Overloaded
from service.telemetry import metrics, version_stats
from service.telemetry.request_metrics import RequestMetrics
from tests.capabilities import demand


def opened(folder: Path) -> set[str]:
    demand("proc")
    found = set()
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        except OSError:  # that of the listing itself
            continue
        if path.parent == folder:
            found.add(path.name.partition(".stats")[0].rpartition(".")[0])
    return found


def test_versions_that_are_gone_are_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    monkeypatch.setattr(version_stats, "_records", {})
    for version in ("1", "2", "3"):
        assert version_stats.record("net", version) is version_stats.record("net", version)
        version_stats.record("net", version).failed(0.5)
    late = version_stats.record("net", "2")
    assert opened(tmp_path) == {"net.1", "net.2", "net.3"}
    version_stats.only({("net", "3")})
    gc.collect()
    assert opened(tmp_path) == {"net.2", "net.3"}
    late.failed(0.5)
    del late
    gc.collect()
    assert opened(tmp_path) == {"net.3"}
    version_stats.record("net", "1").failed(0.5)  # it came back
    assert [version_stats.of("net", version).fail.count for version in "123"] == [2, 2, 1]


def test_without_a_folder_everything_stays_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    monkeypatch.setattr(version_stats, "_records", {})
    version_stats.record("net", "1").failed(0.5)
    version_stats.only(set())
    assert version_stats.of("net", "1").fail.count == 1
    assert version_stats.of("net", "2").fail.count == 0


@pytest.mark.parametrize("answered", [0, 1, 3])
def test_a_request_whose_pictures_failed_is_counted_too(
    answered: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    monkeypatch.setattr(version_stats, "_records", {})
    with RequestMetrics("net", "http") as tally:
        tally.chosen("net", "1", "center")
        for _ in range(answered):
            stages = {"decode": 1.0, "preprocess": 2.0, "queue": 3.0, "inference": 4.0}
            tally.picture({**stages, "total": 10.0}, 0.5)
        tally.pictures(["undecodable_picture"] * 2 + ["ok"] * answered)
    found = version_stats.of("net", "1")
    assert (found.success.count, found.inferences) == (1, answered)
    second = 1_000_000_000
    spent = [found.compute_input, found.queue, found.compute_infer, found.compute_output]
    assert [each.count for each in spent] == 4 * [answered]
    assert [each.ns for each in spent] == [answered * s * second for s in (3, 3, 4, 0.5)]


def counted(name: str, version: str) -> dict[str, float]:
    """Requests for a model's version, by code."""
    return {
        sample.labels["code"]: sample.value
        for family in metrics.REQUESTS.collect()
        for sample in family.samples
        if sample.name == "zoo_requests_total"
        and (sample.labels["model"], sample.labels["version"]) == (name, version)
    }


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (None, "ok"),
        (asyncio.CancelledError(), "cancelled"),
        (Overloaded("full"), "overloaded"),
        (ValueError("a fault"), "internal"),
    ],
)
def test_what_a_request_ended_with_is_counted_by_version(
    error: BaseException | None, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that leaves is no fault of ours: alerts are made of this."""
    monkeypatch.setattr(version_stats, "_records", {})
    for version, chosen in (("7", True), ("unknown", False)):
        name = f"net-{code}"
        with (
            suppress(ValueError, asyncio.CancelledError, Overloaded),
            RequestMetrics(name, "http") as tally,
        ):
            if chosen:
                tally.chosen(name, version, "center")
            if error is not None:
                raise error
        assert counted(name, version) == {code: 1}
