"""A client may shorten the time that a request has, and never lengthen it."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest

from service.transports.grpc.protos import classifier_pb2_grpc, oip_pb2, oip_pb2_grpc
from tests.harness.grpc_client import PICTURES, request
from tests.server import Server, serving

DEADLINE_S, ASKED_S, PATIENCE_S = 0.5, 20, 10
PICTURE = PICTURES["chelsea"]
BINARY = {"Inference-Header-Content-Length": "0"}
LONGER = {"X-Request-Timeout-Ms": str(1000 * ASKED_S)}
INFER = "/v2/models/lenet5/infer"


@pytest.fixture(scope="module")
def trigger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("device") / "stuck"


@pytest.fixture(scope="module")
def server(trigger: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(
        tmp_path_factory.mktemp("limits"),
        service="tests.harness.stuck_device:ZooService",
        stuck_device=trigger,
        zoo_default_model="lenet5",
        zoo_load="used",
        zoo_deadline_ms=int(1000 * DEADLINE_S),
        zoo_threads=1,
    ) as running:
        assert running.classify(PICTURE).status_code == 200
        trigger.touch()
        yield running
        trigger.unlink()


def by_header(server: Server) -> int:
    return server.client.post("/classify", content=PICTURE, headers=LONGER).status_code


def by_header_of_infer(server: Server) -> int:
    return server.client.post(INFER, content=PICTURE, headers=BINARY | LONGER).status_code


def given() -> oip_pb2.ModelInferRequest:
    asked = oip_pb2.ModelInferRequest(model_name="lenet5")
    asked.inputs.add(name="image", datatype="BYTES", shape=[1])
    asked.raw_input_contents.append(struct.pack("<I", len(PICTURE)) + PICTURE)
    asked.parameters["timeout"].int64_param = 1_000_000 * ASKED_S
    return asked


def by_parameter(server: Server) -> int:
    tensor = b'{"name": "image", "datatype": "BYTES", "shape": [1], '
    size = b'"parameters": {"binary_data_size": %d}}' % (len(PICTURE) + 4)
    head = b'{"parameters": {"timeout": %d}, "inputs": [' % (1_000_000 * ASKED_S)
    head += tensor + size + b"]}"
    return server.client.post(
        INFER,
        content=head + struct.pack("<I", len(PICTURE)) + PICTURE,
        headers={"Inference-Header-Content-Length": str(len(head))},
    ).status_code


def by_call(server: Server) -> object:
    with grpc.insecure_channel(server.grpc_address) as channel:
        stub = classifier_pb2_grpc.ClassifierStub(channel)
        error = stub.Classify.future(request("chelsea"), timeout=ASKED_S).exception()
        assert isinstance(error, grpc.RpcError)
        return error.code()


def by_parameter_of_call(server: Server) -> object:
    with grpc.insecure_channel(server.grpc_address) as channel:
        stub = oip_pb2_grpc.GRPCInferenceServiceStub(channel)
        error = stub.ModelInfer.future(given(), timeout=ASKED_S).exception()
        assert isinstance(error, grpc.RpcError)
        return error.code()


@pytest.mark.parametrize(
    "ask", [by_header, by_header_of_infer, by_parameter, by_call, by_parameter_of_call]
)
def test_nobody_waits_longer_than_the_service_allows(
    server: Server, ask: Callable[[Server], object]
) -> None:
    begun = time.monotonic()
    assert ask(server) in (504, grpc.StatusCode.DEADLINE_EXCEEDED)
    assert time.monotonic() - begun < PATIENCE_S
