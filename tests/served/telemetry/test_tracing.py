"""Traces of the running service, as a collector gets them over OTLP."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from loadtests.harness.server import free_port
from service.transports.grpc.protos import classifier_pb2, classifier_pb2_grpc
from tests.harness import collector as collectors
from tests.harness.collector import Collector, Span
from tests.harness.grpc_client import trailers
from tests.paths import ROOT
from tests.photographs import COFFEE
from tests.server import Server, environment, serving

PARENT = "00f067aa0ba902b7"
PATIENCE = 60
QUICK: dict[str, Any] = {
    "otel_bsp_schedule_delay": 100,
    "zoo_default_model": "lenet5",
    "zoo_load": "used",
}
_numbers = iter(range(1, 1000))


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with collectors.over_http() as running:
        yield running


@pytest.fixture(scope="module")
def server(collector: Collector, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("traced")
    with serving(
        folder,
        otel_exporter_otlp_endpoint=collector.endpoint,
        otel_service_name="zoo under test",
        zoo_threads=1,
        **QUICK,
    ) as running:
        yield running


def new_trace() -> str:
    return f"4bf92f3577b34da6a3ce{next(_numbers):012x}"


def parent_of(trace: str, flags: str = "01") -> dict[str, str]:
    return {"traceparent": f"00-{trace}-{PARENT}-{flags}"}


def sampled(given: str) -> bool:
    return bool(int(given.rpartition("-")[2], 16) & 1)


def crops(server: Server) -> dict[str, object]:
    """A request of one ready-made crop."""
    size = server.client.get("/v2/models/lenet5.tensor").json()["inputs"][0]["shape"][1:]
    values = [0] * math.prod(size)
    return {
        "inputs": [{"name": "pixels", "shape": [1, *size], "datatype": "UINT8", "data": values}]
    }


def finished(server: Server, collector: Collector, trace: str) -> Span:
    """The request's own span, which ends last."""
    server.wait_for(lambda: any(span.kind == 2 for span in collector.of(trace)), PATIENCE)
    return next(span for span in collector.of(trace) if span.kind == 2)


def below(collector: Collector, span: Span) -> list[Span]:
    return [each for each in collector.of(span.trace) if each.parent == span.id]


def test_a_request_has_a_span_and_each_stage_one_below(
    server: Server, collector: Collector
) -> None:
    trace = new_trace()
    headers = {**parent_of(trace), "tracestate": "vendor=a,other=b", "User-Agent": "test"}
    answer = server.client.post("/classify?top_k=1", content=COFFEE.read_bytes(), headers=headers)
    assert answer.status_code == 200
    root = finished(server, collector, trace)
    assert answer.headers["traceresponse"] == f"00-{trace}-{root.id}-01"
    assert answer.headers["tracestate"] == "vendor=a,other=b"
    assert (root.name, root.parent, root.state) == ("POST /classify", PARENT, "vendor=a,other=b")
    assert root.resource["service.name"] == "zoo under test"
    assert not root.failed
    told = {
        "http.request.method": "POST",
        "http.route": "/classify",
        "http.response.status_code": 200,
        "url.path": "/classify",
        "url.scheme": "http",
        "client.address": "127.0.0.1",
    }
    assert told.items() <= root.attributes.items()
    read, work, write = below(collector, root)
    assert (read.name, work.name, write.name) == ("read", "classify", "write")
    assert work.attributes == {
        "zoo.code": "ok",
        "zoo.model.name": "lenet5",
        "zoo.model.version": "1",
        "zoo.protocol": "center",
        "zoo.inferences": 1,
    }
    stages = [span for span in below(collector, work) if span.name != "batch"]
    names = [span.name for span in stages]
    assert names == ["queue", "decode", "preprocess", "queue", "inference"]
    assert all(one.end <= after.start + 1e6 for one, after in pairwise(stages))
    for outer, inner in [(root, [read, work, write]), (work, stages)]:
        for span in inner:
            assert outer.start - 1e6 <= span.start <= span.end <= outer.end + 1e6, span
    took = {stage: 1e6 * ms for stage, ms in answer.json()["timing_ms"].items()}
    decode = next(span for span in stages if span.name == "decode")
    assert decode.end - decode.start == pytest.approx(took["decode"], rel=0.2, abs=1e5)
    assert f"trace_id={trace}" in server.logged(trace)
    assert f"span_id={root.id}" in server.logged(trace)


def test_who_is_not_sampled_is_not_exported(server: Server, collector: Collector) -> None:
    quiet, loud = new_trace(), new_trace()
    picture = COFFEE.read_bytes()
    answer = server.client.post("/classify", content=picture, headers=parent_of(quiet, "00"))
    assert answer.headers["traceresponse"].startswith(f"00-{quiet}-")
    assert not sampled(answer.headers["traceresponse"])
    server.client.get("/livez", headers=parent_of(quiet))
    server.client.post("/classify", content=picture, headers=parent_of(loud))
    finished(server, collector, loud)
    assert not collector.of(quiet)


def test_a_request_of_no_trace_begins_one(server: Server, collector: Collector) -> None:
    answer = server.classify(COFFEE)
    trace = answer.headers["traceresponse"].split("-")[1]
    assert finished(server, collector, trace).parent == ""
    assert trace in server.logged(trace)
    broken = server.client.get("/models", headers={"traceparent": "00-0-0-0"})
    assert len(broken.headers["traceresponse"].split("-")[1]) == 32


def test_errors_are_where_they_happened(server: Server, collector: Collector) -> None:
    trace = new_trace()
    bad = server.client.post("/classify", content=b"no picture", headers=parent_of(trace))
    assert bad.status_code == 415
    root = finished(server, collector, trace)
    assert root.attributes["error.type"] == "unsupported_format"
    assert not root.failed  # the client's fault, not the server's
    (decode,) = collector.of(trace, "decode")
    assert decode.attributes["error.type"] == "unsupported_format"
    assert decode.events == ["exception"]
    assert not collector.of(trace, "inference")
    trace = new_trace()
    late = {**parent_of(trace), "X-Request-Timeout-Ms": "1"}
    url, picture = "/classify?model=efficientnet_lite0", COFFEE.read_bytes()
    code = server.client.post(url, content=picture, headers=late).json()["code"]
    assert code == "deadline_exceeded"
    root = finished(server, collector, trace)
    assert (root.failed, root.attributes["error.type"]) == (True, code)
    trace = new_trace()
    server.client.get("/none/at/all", headers=parent_of(trace))
    root = finished(server, collector, trace)
    assert (root.name, root.attributes["http.response.status_code"]) == ("GET", 404)
    assert "http.route" not in root.attributes


def test_a_batch_is_linked_with_its_request_and_this_with_it(
    server: Server, collector: Collector
) -> None:
    """Batches of several requests: tests/unit/telemetry/test_spans_of_stages.py."""
    trace = new_trace()
    url = "/v2/models/lenet5.tensor/infer"
    answer = server.client.post(url, json=crops(server), headers=parent_of(trace))
    assert answer.status_code == 200
    finished(server, collector, trace)
    (work,), (batch,), (inference,) = (
        collector.of(trace, name) for name in ("infer", "batch", "inference")
    )
    assert batch.links == {(work.trace, work.id)}
    assert (batch.trace, batch.parent) in batch.links
    assert inference.links == {(batch.trace, batch.id)}
    assert batch.attributes["zoo.batch.requests"] == batch.attributes["zoo.batch.crops"] == 1


def test_pictures_of_a_form_and_crops_have_spans(server: Server, collector: Collector) -> None:
    trace = new_trace()
    form = [("image", (f"secret-{number}.jpg", COFFEE.read_bytes())) for number in range(3)]
    labels = [
        result["predictions"][0]["label"]
        for result in server.client.post(
            "/classify?model=efficientnet_lite0", files=form, headers=parent_of(trace)
        ).json()["results"]
    ]
    finished(server, collector, trace)
    assert [len(collector.of(trace, name)) for name in ("decode", "inference")] == [3, 3]
    assert b"secret" not in collector.raw
    assert labels[0].encode() not in collector.raw
    trace = new_trace()
    answer = server.client.post(
        "/v2/models/lenet5.tensor/infer", json=crops(server), headers=parent_of(trace)
    )
    assert answer.status_code == 200, answer.text
    assert finished(server, collector, trace).name == "POST /v2/models/{name}/infer"
    (work,) = collector.of(trace, "infer")
    names = [span.name for span in below(collector, work)]
    assert sorted(names) == ["batch", "inference", "queue"]


def test_a_call_has_a_span_with_metadata_in_and_out(server: Server, collector: Collector) -> None:
    trace = new_trace()
    metadata = [("traceparent", parent_of(trace)["traceparent"]), ("tracestate", "vendor=a")]
    request = classifier_pb2.ClassifyRequest(images=[COFFEE.read_bytes()])
    with grpc.insecure_channel(server.grpc_address) as channel:
        stub = classifier_pb2_grpc.ClassifierStub(channel)
        _, call = stub.Classify.with_call(request, metadata=metadata, timeout=60)
        root = finished(server, collector, trace)
        assert ("traceresponse", f"00-{trace}-{root.id}-01") in call.trailing_metadata()
        assert ("tracestate", "vendor=a") in call.trailing_metadata()
        assert (root.name, root.parent) == ("zoo.v1.Classifier/Classify", PARENT)
        told = {"rpc.system.name": "grpc", "rpc.response.status_code": "OK"}
        assert told.items() <= root.attributes.items()
        read, work = below(collector, root)
        assert (read.name, work.name) == ("read", "classify")
        stages = {span.name for span in below(collector, work)}
        assert {"queue", "decode", "preprocess", "inference"} <= stages

        trace = new_trace()
        bad = classifier_pb2.ClassifyRequest(images=[b"no picture"])
        with pytest.raises(grpc.RpcError) as refused:
            stub.Classify(bad, metadata=parent_of(trace).items(), timeout=60)
        root = finished(server, collector, trace)
        assert f"00-{trace}-{root.id}-01" in trailers(refused.value).values()
        assert root.attributes["rpc.response.status_code"] == "INVALID_ARGUMENT"
        assert root.attributes["error.type"] == "unsupported_format"

        trace = new_trace()
        answers = stub.ClassifyStream(
            iter([request] * 3), metadata=parent_of(trace).items(), timeout=60
        )
        assert len(list(answers)) == 3
        root = finished(server, collector, trace)
        works = below(collector, root)
        assert [span.name for span in works] == ["classify"] * 3


def test_two_workers_export_over_grpc(tmp_path: Path) -> None:
    with collectors.over_grpc() as collector:
        with serving(
            tmp_path,
            otel_traces_exporter="otlp",
            otel_exporter_otlp_traces_endpoint=collector.endpoint,
            otel_exporter_otlp_protocol="grpc",
            otel_traces_sampler="parentbased_always_off",
            otel_bsp_schedule_delay=60_000,
            zoo_workers=2,
            zoo_default_model="lenet5",
            zoo_load="used",
        ) as server:
            server.logged("loaded lenet5", 2, PATIENCE)
            picture, traces = COFFEE.read_bytes(), [new_trace() for _ in range(40)]

            def ask(trace: str) -> None:
                headers = parent_of(trace)
                url = f"{server.url}/classify"
                assert httpx.post(url, content=picture, headers=headers, timeout=60).is_success

            with ThreadPoolExecutor(8) as pool:
                list(pool.map(ask, traces))
            alone = server.classify(COFFEE).headers["traceresponse"]  # the sampler says no
            assert not sampled(alone)
            assert not collector.spans  # they come each minute, and at the end
            workers = {worker.pid for worker in server.workers()}
        roots = [span for span in collector.spans if span.kind == 2]
        assert {span.trace for span in roots} == set(traces)
        assert {span.resource["process.pid"] for span in roots} == workers
        assert {span.resource["service.name"] for span in roots} == {"imagenet-zoo"}


def test_a_collector_that_is_not_there_harms_nobody(tmp_path: Path) -> None:
    with serving(
        tmp_path,
        otel_exporter_otlp_endpoint=f"http://127.0.0.1:{free_port()}",
        zoo_log_format="json",
        **QUICK,
    ) as server:
        assert all(server.classify(COFFEE).status_code == 200 for _ in range(5))
        line = json.loads(server.logged('"opentelemetry', 1, PATIENCE))
        assert line["level"] in ("WARNING", "ERROR")
        assert server.classify(COFFEE).status_code == 200


def refused(code: str, **settings: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=environment(Path(os.devnull), **settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    return done.stdout.strip() if done.returncode else ""


def test_what_cannot_be_had_stops_the_start() -> None:
    start = "import service.app"
    gone = "import sys; sys.modules['opentelemetry.exporter.otlp.proto.http'] = None; "
    missing = refused(gone + start, otel_traces_exporter="otlp")
    assert missing.endswith(
        "bad setting OTEL_TRACES_EXPORTER=otlp: OpenTelemetry's exporter is not installed (it "
        "comes with the extra `tracing`)"
    )
    other = refused(start, otel_traces_exporter="zipkin")
    assert other.endswith("OTEL_TRACES_EXPORTER='zipkin': it can be otlp, console or none")
    spoken = refused(start, otel_traces_exporter="otlp", otel_exporter_otlp_protocol="http/json")
    assert spoken.endswith("it can be http/protobuf or grpc")
    assert not refused(gone + start, otel_traces_exporter="otlp", otel_sdk_disabled="true")
    assert not refused(gone + start, otel_traces_exporter="none")
    off = (
        "import service.transports.http.app, sys;sys.exit('service.telemetry.spans' in sys.modules)"
    )
    assert not refused(off)
