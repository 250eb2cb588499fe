"""Metrics: true over several workers, and bounded whatever clients send."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests import metrics_page
from tests.capabilities import program
from tests.photographs import COFFEE
from tests.server import START_SECONDS, Server, serving

WORKERS = 2
CAPTURED: dict[str, Any] = {
    "stdout": subprocess.PIPE,
    "stderr": subprocess.STDOUT,
    "timeout": 60,
    "check": False,
}
ONLY_WITH_TLS = {"zoo_tls_certificate_expiry_timestamp_seconds"}


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
    names: dict[str, Any] = {"model": "lenet5", "protocol": "center", "transport": "http"}
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

        assert grown("zoo_requests_total", code="ok", version="1", **names) == 61
        refused = grown("zoo_requests_total", code="unsupported_format", version="1", **names)
        assert refused == 20
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
    unknown = {"model": "unknown", "version": "unknown", "protocol": "unknown", "transport": "http"}
    before = scrape(workers)
    httpx.post(f"{workers.url}/classify?top_k=x", content=b"a")
    httpx.post(f"{workers.url}/classify", files={"x": b"1"})
    httpx.post(f"{workers.url}/classify", content=bytes(40_000_000))
    after = scrape(workers)
    for code, count in (("bad_parameter", 2), ("body_too_large", 1)):
        labels = {"code": code, **unknown}
        grown = value(after, "zoo_requests_total", **labels)
        assert grown - value(before, "zoo_requests_total", **labels) == count


@pytest.mark.needs("promtool")
def test_promtool_has_nothing_to_say(workers: Server) -> None:
    workers.classify(COFFEE)
    text = httpx.get(f"{workers.url}/metrics").text
    assert "zoo_request_seconds_bucket" in text
    command = [program("promtool"), "check", "metrics"]
    checked = subprocess.run(command, input=text.encode(), **CAPTURED)
    assert (checked.returncode, checked.stdout) == (0, b"")


def test_the_page_has_every_metric_and_every_metric_is_exposed(workers: Server) -> None:
    assert metrics_page.PAGE.read_text() == metrics_page.page()  # python -m tests.metrics_page
    text = httpx.get(f"{workers.url}/metrics").text
    found = {family.name: family for family in text_string_to_metric_families(text)}
    there = {name.removesuffix("_total") for name in metrics_page.rows()}
    assert set(found) == there - ONLY_WITH_TLS
    for family in found.values():
        assert len(family.documentation) > 30, family.name
        assert family.documentation.endswith("."), family.name


def test_a_killed_worker_leaves_its_counts_and_nothing_else(workers: Server) -> None:
    """The last test of these servers: one of them starts anew."""
    workers.classify(COFFEE)
    before = scrape(workers)
    victim, other = workers.workers()
    picture = COFFEE.read_bytes()
    for _ in range(20):  # each on a connection of its own: any worker may answer
        assert httpx.post(f"{workers.url}/classify", content=picture, timeout=60).is_success
    os.kill(victim.pid, signal.SIGKILL)
    for name, labels in (
        ("zoo_ready", {}),
        ("zoo_model_ready", {"model": "lenet5", "version": "1"}),
    ):
        # not in every worker, until the next one has loaded it
        workers.wait_for(
            lambda n=name, by=labels: value(scrape(workers), n, **by) == 0,  # type: ignore[misc]
            START_SECONDS,
        )
    workers.logged("loaded lenet5", WORKERS + 1, START_SECONDS)
    workers.wait_for(lambda: value(scrape(workers), "zoo_ready") == 1, START_SECONDS)
    after = scrape(workers)
    counted = [key for key in before if key[0] == "zoo_requests_total"]
    assert counted
    grown = {key: after[key] - before[key] for key in counted if after[key] != before[key]}
    ok = {"model": "lenet5", "version": "1", "protocol": "center", "transport": "http"}
    answered = "zoo_requests_total", frozenset({**ok, "code": "ok"}.items())
    assert grown == {answered: 20}  # what was answered just before it was killed too
    for name in ("zoo_admitted_limit_crops", "zoo_body_limit_bytes", "zoo_worker_threads"):
        assert value(after, name) == value(before, name) > 0, name
    assert value(after, "zoo_model_bytes", model="lenet5", version="1") == value(
        before, "zoo_model_bytes", model="lenet5", version="1"
    )
    places = [str(number) for number in range(WORKERS)]
    starts = [value(after, "zoo_worker_starts_total", worker=place) for place in places]
    assert sorted(starts) == [1, 2]  # the new one has the number of the dead
    of_workers = {key for key in after if key[0] == "process_resident_memory_bytes"}
    assert of_workers == {
        ("process_resident_memory_bytes", frozenset({("worker", place)})) for place in places
    }
    survivor = value(before, "process_start_time_seconds", worker=places[starts.index(1)])
    began = value(after, "process_start_time_seconds", worker=places[starts.index(1)])
    assert began == survivor == pytest.approx(other.create_time(), abs=2)
