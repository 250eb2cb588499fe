"""Streams of gRPC, and calls that are left."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import code_pb2
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from loadtests.clients import http2
from loadtests.harness.photographs import jpeg, photograph
from service.transports.grpc.protos import classifier_pb2 as messages
from service.transports.grpc.protos import classifier_pb2_grpc, oip_pb2, oip_pb2_grpc
from tests.harness.grpc_client import (
    PICTURES,
    SECONDS,
    connected,
    details,
    framed,
    request,
    stub_of,
    wire,
)
from tests.server import Server, serving


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("streams"), zoo_load="used") as running:
        yield running


@pytest.fixture
def stub(server: Server) -> Iterator[classifier_pb2_grpc.ClassifierStub]:
    with grpc.insecure_channel(server.grpc_address) as channel:
        yield stub_of(channel)


def test_a_cancelled_call_drops_its_crops(
    server: Server, stub: classifier_pb2_grpc.ClassifierStub
) -> None:
    asked = request(*["rocket"] * 12, protocol="ten_crop")
    calls = [
        stub.Classify.future(asked, metadata=[("x-request-id", f"cancelled-{i}")]) for i in range(3)
    ]
    server.wait_for(lambda: server.metric("zoo_admitted_crops") > 240)  # the third is in as well
    for call in calls:
        call.cancel()
    for number in range(3):
        line = server.logged(f"request_id=cancelled-{number}")
        assert "code=cancelled" in line
    assert stub.Classify(request("chelsea"), timeout=30).results
    assert server.metric("zoo_admitted_crops") == 0


def test_a_folder_goes_through_one_stream(stub: classifier_pb2_grpc.ClassifierStub) -> None:
    names = list(PICTURES)
    count = 200  # more than a stream has in work at a time
    asked = [request(names[i % len(names)], id=str(i), top_k=1) for i in range(count)]
    asked[17] = messages.ClassifyRequest(images=[b"text"], id="17")
    asked[30] = messages.ClassifyRequest(id="30")
    answers = {answer.id: answer for answer in stub.ClassifyStream(iter(asked))}
    assert set(answers) == {str(i) for i in range(count)}
    assert answers["17"].results[0].WhichOneof("outcome") == "error"
    assert answers["30"].error.code == code_pb2.INVALID_ARGUMENT
    for i in set(range(count)) - {17, 30}:
        (result,) = answers[str(i)].results
        assert result.WhichOneof("outcome") == "classification", result
        (first,) = result.classification.predictions
        same = answers[str(i % len(names))].results[0].classification.predictions[0]
        assert (first.index, first.probability) == (
            same.index,
            pytest.approx(same.probability, abs=1e-6),
        )


def test_a_stream_that_is_left_leaves_nothing(
    server: Server, stub: classifier_pb2_grpc.ClassifierStub
) -> None:
    stream = stub.ClassifyStream(
        iter([request("chelsea", protocol="ten_crop")] * 50),
        metadata=[("x-request-id", "left")],
    )
    next(stream)
    stream.cancel()
    assert "code=cancelled" in server.logged("request_id=left")
    assert stub.Classify(request("chelsea"), timeout=30).results
    assert server.metric("zoo_body_bytes") == 0


def test_streams_that_are_left_do_the_worker_no_harm(
    server: Server, stub: classifier_pb2_grpc.ClassifierStub
) -> None:
    """To ask a cancelled call for its peer kills the process, sooner or later."""
    (before,) = (worker.pid for worker in server.workers())
    for _ in range(40):
        stream = stub.ClassifyStream(iter([request("chelsea", top_k=1)] * 8))
        next(stream)
        stream.cancel()
    assert stub.Classify(request("chelsea"), timeout=30).results
    assert [worker.pid for worker in server.workers()] == [before]


def test_a_stream_that_asks_for_nothing_ends(tmp_path: Path) -> None:
    """Else a few idle connections have all the places of calls."""
    idle = threading.Event()

    def paused(asked: Any) -> Iterator[Any]:
        for _ in range(5):
            yield asked
            time.sleep(1.2)  # of 4 s, which are over with the last
        idle.wait(SECONDS)

    picture = oip_pb2.ModelInferRequest(model_name="lenet5")
    settings: dict[str, Any] = {
        "zoo_default_model": "lenet5",
        "zoo_load": "used",
        "zoo_idle_ms": 4000,
    }
    with serving(tmp_path, **settings) as server, connected(server) as channel:
        oip = oip_pb2_grpc.GRPCInferenceServiceStub(channel)
        for method, asked in (
            (stub_of(channel).ClassifyStream, request("chelsea")),
            (oip.ModelStreamInfer, picture),
        ):
            answers = method(paused(asked), timeout=SECONDS)
            for _ in range(5):
                next(answers)
            with pytest.raises(grpc.RpcError) as ended:
                next(answers)
            assert ended.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            assert details(ended.value)[0] == "request_timeout"
        idle.set()


def test_so_does_one_of_reflection(tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "zoo_default_model": "lenet5",
        "zoo_load": "used",
        "zoo_idle_ms": 3000,
        "zoo_grpc_max_calls": 1,
    }
    idle = threading.Event()

    def asked() -> Iterator[reflection_pb2.ServerReflectionRequest]:
        yield reflection_pb2.ServerReflectionRequest(list_services="")
        idle.wait(SECONDS)

    with serving(tmp_path, **settings) as server, connected(server) as channel:
        answers = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(asked())
        assert next(answers).list_services_response.service
        with pytest.raises(grpc.RpcError) as refused:
            stub_of(channel).Classify(request("chelsea"))
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        with pytest.raises(grpc.RpcError) as ended:
            next(answers)
        assert details(ended.value)[0] == "request_timeout"
        assert stub_of(channel).Classify(request("chelsea")).results
        idle.set()


def computed(server: Server) -> float:
    return server.metric('zoo_batch_crops_sum{model="efficientnet_lite0"}')


def test_a_stream_whose_answers_are_not_taken_ends(tmp_path: Path) -> None:
    """Its client gives no room for them, while it goes on to live; another wants the place."""
    settings: dict[str, Any] = {"zoo_load": "used", "zoo_idle_ms": 4000, "zoo_grpc_max_calls": 1}
    small = jpeg(photograph("china.jpg").resize((32, 24)))
    asked = messages.ClassifyRequest(images=[small], top_k=1000)  # some 40 KB answer it
    message = framed(asked.SerializeToString())
    with serving(tmp_path, **settings) as server, wire(server) as raw:
        stream = raw.begin(b"/zoo.v1.Classifier/ClassifyStream", message)
        for _ in range(5):
            raw.send(http2.DATA, 0, stream, message)
        server.wait_for(
            lambda: server.metric("zoo_admitted_crops") == 0 < computed(server), SECONDS
        )
        with connected(server) as channel:

            def served() -> bool:
                with contextlib.suppress(grpc.RpcError):
                    return bool(stub_of(channel).Classify(request("chelsea")).results)
                return False

            assert not served()
            server.wait_for(served, SECONDS)


def test_what_a_stream_waits_out_is_not_counted(tmp_path: Path) -> None:
    """A queue of one place: all but one request are refused at first, and then answered."""
    count = 12
    settings: dict[str, Any] = {
        "zoo_default_model": "lenet5",
        "zoo_load": "used",
        "zoo_queue_crops": 1,
    }
    picture = oip_pb2.ModelInferRequest(model_name="lenet5")
    picture.inputs.add(name="image", datatype="BYTES", shape=[1])
    picture.inputs[0].contents.bytes_contents.append(PICTURES["chelsea"])
    with serving(tmp_path, **settings) as server, connected(server) as channel:
        answers = list(stub_of(channel).ClassifyStream(iter([request("chelsea")] * count)))
        assert [answer.error.code for answer in answers] == [0] * count
        oip = oip_pb2_grpc.GRPCInferenceServiceStub(channel)
        inferred = list(oip.ModelStreamInfer(iter([picture] * count)))
        assert [answer.error_message for answer in inferred] == [""] * count
        exposed = server.client.get("/metrics").text
        counted = [line for line in exposed.splitlines() if line.startswith("zoo_requests_total")]
        assert len(counted) == 1, counted
        assert 'code="ok"' in counted[0]
        assert counted[0].endswith(f" {2 * count}.0")
        (statistics,) = server.client.get("/v2/models/lenet5/stats").json()["model_stats"]
        assert statistics["inference_stats"]["success"]["count"] == 2 * count
        assert statistics["inference_stats"]["fail"]["count"] == 0
