"""Every gauge says what it should while a spare process waits, which writes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.telemetry import value_files
from tests.photographs import COFFEE
from tests.server import Server, serving

WORKERS = 2
LENET = {"model": "lenet5", "version": "1"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("gauges")
    with serving(
        folder,
        zoo_workers=WORKERS,
        zoo_default_model="lenet5",
        zoo_load="used",
        zoo_threads=3,
        zoo_spare=True,
        zoo_queue_crops=100,
        zoo_max_bodies_bytes=40_000_000,
        zoo_model_memory_mb=900,
        zoo_deadline_ms=7000,
    ) as running:
        running.logged("serves, after", WORKERS)
        running.wait_for(lambda: bool(running.spares()))
        (spare,) = running.spares()
        # all is imported when it waits for its orders: it is called so before
        running.wait_for(lambda: waits(spare))
        yield running


def waits(process: psutil.Process) -> bool:
    """Whether it has imported gRPC's library, which comes last, and sleeps."""
    maps = Path(f"/proc/{process.pid}/maps").read_text()
    return "cygrpc" in maps and process.status() == psutil.STATUS_SLEEPING


def gauges(server: Server) -> dict[str, list[tuple[dict[str, str], float]]]:
    """Every gauge of ours, and its samples."""
    return {
        family.name: [(sample.labels, sample.value) for sample in family.samples]
        for family in text_string_to_metric_families(server.client.get("/metrics").text)
        if family.type == "gauge" and family.name.startswith("zoo_")
    }


def test_every_gauge_is_what_the_workers_say(server: Server) -> None:
    assert server.classify(COFFEE).status_code == 200
    found = gauges(server)
    one = {name: samples[0][1] for name, samples in found.items() if samples[0][0] in ({}, LENET)}
    exact = {
        "zoo_admitted_crops": 0,
        "zoo_admitted_limit_crops": 100 * WORKERS,
        "zoo_body_bytes": 0,
        "zoo_body_limit_bytes": 40_000_000 * WORKERS,
        "zoo_deadline_seconds": 7,
        "zoo_model_fallback": 0,
        "zoo_model_limit_bytes": 900_000_000 * WORKERS,
        "zoo_model_ready": 1,
        "zoo_model_refused": 0,
        "zoo_ready": 1,
        "zoo_worker_threads": 3 * WORKERS,
    }
    least = {
        "zoo_http_connections": 1,
        "zoo_memory_limit_bytes": 1 << 28,
        "zoo_model_bytes": 1000,
        "zoo_model_max_batch": 1,
    }
    (queue,) = (value for labels, value in found["zoo_queue_crops"] if labels["model"] == "lenet5")
    assert queue == 0
    for name in ("zoo_model_bytes", "zoo_model_ready", "zoo_model_refused", "zoo_model_fallback"):
        (one[name],) = (value for labels, value in found[name] if labels == LENET)
    assert {name: one[name] for name in exact} == exact
    assert all(one[name] >= value for name, value in least.items()), one
    assert [value for _, value in found["zoo_build_info"]] == [1]
    assert [value for _, value in found["zoo_model_info"]] == [1]
    assert [labels["provider"] for labels, value in found["zoo_model_nodes"] if value > 0]
    assert all(
        value > 0
        for labels, value in found["zoo_memory_ceiling_bytes"]
        if labels["term"] != "models"
    )
    checked = {*exact, *least, "zoo_queue_crops", "zoo_build_info", "zoo_model_info"}
    assert set(found) == checked | {"zoo_model_nodes", "zoo_memory_ceiling_bytes"}


def test_the_spare_process_writes_nothing(server: Server) -> None:
    (spare,) = server.spares()
    maps = Path(f"/proc/{server.workers()[0].pid}/maps").read_text()
    (folder,) = {
        Path(line.split()[-1]).parent for line in maps.splitlines() if line.endswith(".db")
    }
    kinds = {f"{kind}_{place}.db" for kind in value_files.KINDS for place in range(WORKERS)}
    assert {path.name for path in folder.glob("*.db")} == kinds
    assert str(folder) not in Path(f"/proc/{spare.pid}/maps").read_text()
