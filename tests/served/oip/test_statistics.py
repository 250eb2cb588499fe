"""Triton's statistics: what the requests of every transport did, in every worker."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import grpc
import httpx
import numpy as np
import pytest

from service.transports.grpc.protos import classifier_pb2, classifier_pb2_grpc, oip_pb2_grpc
from service.transports.grpc.protos import oip_pb2 as messages
from tests.harness.oip_client import base64_input, message, outputs_of, post
from tests.photographs import COFFEE
from tests.server import START_SECONDS, Server, serving

PICTURE = COFFEE.read_bytes()
LITE0 = "efficientnet_lite0"


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("statistics"), zoo_workers=2) as server:
        server.logged("gRPC on", 2, START_SECONDS)
        yield server


def statistics(server: Server, path: str) -> list[dict[str, Any]]:
    reply = httpx.get(f"{server.url}/v2/models/{path}", timeout=30)  # any worker answers for all
    assert reply.status_code == 200, reply.text
    return reply.json()["model_stats"]


def of(server: Server, model: str) -> dict[str, Any]:
    (entry,) = statistics(server, f"{model}/stats")
    assert (entry["name"], entry["version"]) == (model, "1")
    return entry


def counts(entry: dict[str, Any]) -> dict[str, int]:
    return {name: each["count"] for name, each in entry["inference_stats"].items()}


def test_requests_of_every_transport_are_counted(workers: Server) -> None:
    before = of(workers, LITE0)
    began = time.time()
    for _ in range(6):  # connections of their own, so that both workers get some
        with httpx.Client(base_url=workers.url, timeout=60) as client:
            assert client.post("/classify", content=PICTURE).status_code == 200
            body = {"inputs": [base64_input(PICTURE, PICTURE)]}
            assert client.post(f"/v2/models/{LITE0}/infer", json=body).status_code == 200
        options = [("grpc.use_local_subchannel_pool", 1)]
        with grpc.insecure_channel(workers.grpc_address, options=options) as channel:
            classifier = classifier_pb2_grpc.ClassifierStub(channel)
            classifier.Classify(classifier_pb2.ClassifyRequest(images=[PICTURE]))
            oip_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(
                message(LITE0, PICTURE, protocol="ten_crop")
            )
    after = of(workers, LITE0)
    assert after["inference_count"] - before["inference_count"] == 6 * 5
    grown = {name: n - counts(before)[name] for name, n in counts(after).items()}
    assert grown == {
        "success": 24,
        "fail": 0,
        "cache_hit": 0,
        "cache_miss": 0,
        **dict.fromkeys(("queue", "compute_input", "compute_infer", "compute_output"), 30),
    }
    for entry in after["inference_stats"].values():
        assert (entry["ns"] > 0) == (entry["count"] > 0)
    assert began * 1e3 <= after["last_inference"] + 1 <= time.time() * 1e3 + 2

    def crops(entry: dict[str, Any]) -> int:
        batches = entry["batch_stats"]
        assert entry["execution_count"] == sum(b["compute_infer"]["count"] for b in batches)
        return sum(b["batch_size"] * b["compute_infer"]["count"] for b in batches)

    assert crops(after) - crops(before) == 6 * (1 + 2 + 1 + 10)


def test_crops_and_failures_are_counted(workers: Server) -> None:
    before = of(workers, "lenet5")
    pixels = np.zeros((3, 32, 32, 1), np.uint8)
    given = {"name": "pixels", "datatype": "UINT8", "shape": pixels.shape, "data": pixels.tolist()}
    assert outputs_of(post(workers, "lenet5.tensor", {"inputs": [given]}))
    assert workers.classify(b"text", model="lenet5").status_code == 415
    broken = {"inputs": [base64_input(PICTURE, b"text")]}
    assert post(workers, "lenet5", broken).status_code == 415
    after = of(workers, "lenet5")
    assert after["inference_count"] - before["inference_count"] == 3
    assert counts(after)["success"] - counts(before)["success"] == 1
    assert counts(after)["fail"] - counts(before)["fail"] == 2
    labels = 'code="ok",model="lenet5",protocol="ready_made",transport="http",version="1"'
    sample = f"zoo_requests_total{{{labels}}}"
    assert workers.metric(sample) == 1


def test_grpc_says_the_same(workers: Server) -> None:
    with grpc.insecure_channel(workers.grpc_address) as channel:
        stub = oip_pb2_grpc.GRPCInferenceServiceStub(channel)
        everything = stub.ModelStatistics(messages.ModelStatisticsRequest()).model_stats
        one = stub.ModelStatistics(messages.ModelStatisticsRequest(name=LITE0, version="1"))
    assert [entry.name for entry in everything] == [LITE0, "lenet5"]
    (entry,) = one.model_stats
    rest = of(workers, LITE0)
    assert entry.inference_count == rest["inference_count"]
    assert entry.last_inference == rest["last_inference"]
    success = rest["inference_stats"]["success"]
    assert (entry.inference_stats.success.count, entry.inference_stats.success.ns) == (
        success["count"],
        success["ns"],
    )
    assert [batch.batch_size for batch in entry.batch_stats] == [
        batch["batch_size"] for batch in rest["batch_stats"]
    ]


def test_the_faces_share_what_their_network_did(workers: Server) -> None:
    for face in ("lenet5.tensor", "lenet5.topk"):
        (shared,) = statistics(workers, f"{face}/versions/1/stats")
        assert shared == {**of(workers, "lenet5"), "name": face}
    assert [entry["name"] for entry in statistics(workers, "stats")] == [LITE0, "lenet5"]


def test_a_worker_that_ends_leaves_its_counts(workers: Server) -> None:
    for _ in range(4):
        httpx.post(f"{workers.url}/classify", content=PICTURE, timeout=60)
    before = of(workers, LITE0)["inference_count"]
    assert before >= 4
    workers.workers()[0].kill()
    workers.logged("gRPC on", 3, START_SECONDS)
    assert of(workers, LITE0)["inference_count"] == before
