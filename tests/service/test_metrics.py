"""Metrics: true over several workers, and bounded whatever clients send."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.photographs import COFFEE
from tests.server import START_SECONDS, Server, serving

WORKERS = 2


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("workers")
    with serving(folder, zoo_workers=WORKERS, zoo_default_model="lenet5") as server:
        server.logged("loaded lenet5", WORKERS, START_SECONDS)
        yield server


def scrape(server: Server) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    reply = httpx.get(f"{server.url}/metrics")  # a new connection: any worker may answer
    assert reply.headers["content-type"].startswith("text/plain")
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(reply.text)
        for sample in family.samples
    }


def value(metrics: dict, name: str, **labels: str) -> float:
    return metrics.get((name, frozenset(labels.items())), 0.0)


def test_counts_add_up_over_workers(workers: Server) -> None:
    names = {"model": "lenet5", "protocol": "center", "transport": "http"}
    before = scrape(workers)
    picture = COFFEE.read_bytes()

    def ask(number: int) -> int:
        body = picture if number % 4 else b"garbage"
        return httpx.post(f"{workers.url}/classify", content=body, timeout=60).status_code

    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(ask, range(80)))
    form = [("image", picture), ("image", picture), ("image", b"garbage")]
    assert httpx.post(f"{workers.url}/classify", files=form, timeout=60).status_code == 200
    assert (statuses.count(200), statuses.count(415)) == (60, 20)
    for _ in range(6):
        after = scrape(workers)

        def grown(name: str, after: dict = after, **labels: str) -> float:
            return value(after, name, **labels) - value(before, name, **labels)

        assert grown("zoo_requests_total", code="ok", **names) == 61
        assert grown("zoo_requests_total", code="unsupported_format", **names) == 20
        assert grown("zoo_pictures_total", code="ok", **names) == 62
        assert grown("zoo_pictures_total", code="unsupported_format", **names) == 21
        for stage in ("decode", "preprocess", "queue", "inference", "total"):
            assert grown("zoo_stage_seconds_count", model="lenet5", stage=stage) == 62
        assert grown("zoo_batch_crops_sum", model="lenet5") == 62
        assert value(after, "zoo_queue_crops", model="lenet5") == 0
        assert value(after, "zoo_admitted_crops") == 0
        assert value(after, "zoo_model_ready", model="lenet5", version="1") == 1


def test_labels_are_bounded(workers: Server) -> None:
    httpx.get(f"{workers.url}/warm")
    before = set(scrape(workers))
    for number in range(30):
        query = f"model=m{number}&protocol=p{number}&version={number}"
        httpx.post(f"{workers.url}/classify?{query}", content=b"x")
        httpx.get(f"{workers.url}/nothing/{number}")
        httpx.get(f"{workers.url}/models/m{number}")
        httpx.request(f"M{number}", f"{workers.url}/classify")
    new = set(scrape(workers)) - before
    assert len(new) <= 4, new  # one time series of requests for what is unknown
    text = httpx.get(f"{workers.url}/metrics").text
    assert not re.search(r'"[mp]\d+"', text)
    assert 'model="unknown"' in text


def test_what_ends_before_it_is_read_is_counted(workers: Server) -> None:
    unknown = {"model": "unknown", "protocol": "unknown", "transport": "http"}
    before = scrape(workers)
    httpx.post(f"{workers.url}/classify?top_k=x", content=b"a")
    httpx.post(f"{workers.url}/classify", files={"x": b"1"})
    httpx.post(f"{workers.url}/classify", content=bytes(40_000_000))
    after = scrape(workers)
    for code, count in (("bad_parameter", 2), ("body_too_large", 1)):
        labels = {"code": code, **unknown}
        grown = value(after, "zoo_requests_total", **labels)
        assert grown - value(before, "zoo_requests_total", **labels) == count


def test_every_metric_has_help(workers: Server) -> None:
    text = httpx.get(f"{workers.url}/metrics").text
    families = [f for f in text_string_to_metric_families(text) if f.name.startswith("zoo_")]
    assert len(families) >= 7
    assert all(len(family.documentation) > 20 for family in families)


def test_a_killed_worker_leaves_no_gauges_behind(tmp_path: Path) -> None:
    with serving(tmp_path, zoo_workers=2, zoo_default_model="lenet5") as server:
        server.logged("loaded lenet5", 2, START_SECONDS)
        assert value(scrape(server), "zoo_model_ready", model="lenet5", version="1") == 1
        victim = server.workers()[0]
        os.kill(victim.pid, signal.SIGKILL)
        server.logged("loaded lenet5", 3, START_SECONDS)
        folder = next((tmp_path / "bentoml").rglob("gauge_livemin_*.db")).parent
        scrape(server)
        alive = {str(worker.pid) for worker in server.workers()}
        left = {path.stem.rpartition("_")[2] for path in folder.glob("gauge_live*.db")}
        assert left == alive
