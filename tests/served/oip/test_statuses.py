"""What the Open Inference Protocol says over gRPC when it fails, and of what is not ready."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2, status_pb2

from service.manifest import Member
from service.transports.grpc.protos import oip_pb2 as messages
from service.transports.grpc.protos import oip_pb2_grpc
from service.transports.grpc.status import DETAILS_KEY
from tests.harness.copies import copy_of, ensemble
from tests.harness.grpc_client import trailers, unary
from tests.harness.oip_client import base64_input, message, outputs_of, post, set_parameters
from tests.photographs import COFFEE
from tests.served.oip.test_errors import check
from tests.server import Server, serving

PICTURE = COFFEE.read_bytes()
LITE0 = "efficientnet_lite0"
IMAGE = base64_input(PICTURE)


@pytest.fixture
def stub(server: Server) -> Iterator[oip_pb2_grpc.GRPCInferenceServiceStub]:
    with grpc.insecure_channel(server.grpc_address) as channel:
        yield oip_pb2_grpc.GRPCInferenceServiceStub(channel)


def refused(call: Callable[[], object]) -> tuple[str, str, str]:
    """Status, code and detail of a call that fails."""
    with pytest.raises(grpc.RpcError) as raised:
        call()
    error = raised.value
    status = status_pb2.Status.FromString(trailers(error)[DETAILS_KEY])
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    return error.code().name, info.reason, str(error.details())


def changed(change: Callable[[messages.ModelInferRequest], object]) -> messages.ModelInferRequest:
    asked = message(LITE0, PICTURE)
    change(asked)
    return asked


MESSAGES: dict[str, Callable[[Any], object]] = {
    "no input": lambda m: m.ClearField("inputs"),
    "two inputs": lambda m: m.inputs.add().CopyFrom(m.inputs[0]),
    "raw missing": lambda m: m.ClearField("raw_input_contents"),
    "raw and contents": lambda m: m.inputs[0].contents.bytes_contents.append(b"x"),
    "two raw": lambda m: m.raw_input_contents.append(b""),
    "wrong contents": lambda m: (
        m.ClearField("raw_input_contents"),
        m.inputs[0].contents.fp32_contents.append(1),
    ),
    "datatype": lambda m: setattr(m.inputs[0], "datatype", "UINT8"),
    "unknown datatype": lambda m: setattr(m.inputs[0], "datatype", "x" * 1000),
    "negative": lambda m: m.inputs[0].shape.__setitem__(0, -1),
    "huge": lambda m: m.inputs[0].shape.__setitem__(0, 2**63 - 1),
    "prefix lies": lambda m: m.raw_input_contents.__setitem__(0, b"\xff\xff\xff\xff1234"),
    "empty raw": lambda m: m.raw_input_contents.__setitem__(0, b""),
    "size differs": lambda m: set_parameters(m.inputs[0], {"binary_data_size": 3}),
    "long id": lambda m: setattr(m, "id", "x" * 257),
    "output": lambda m: m.outputs.add(name="nothing"),
    "parameter": lambda m: set_parameters(m, {"colour": "red"}),
    "top_k": lambda m: set_parameters(m, {"top_k": 0}),
    "timeout": lambda m: set_parameters(m, {"timeout": 0.5}),
}


@pytest.mark.parametrize("kind", MESSAGES)
def test_bad_messages(stub: oip_pb2_grpc.GRPCInferenceServiceStub, kind: str) -> None:
    asked = changed(MESSAGES[kind])
    status, code, detail = refused(lambda: stub.ModelInfer(asked))
    if kind == "huge":
        assert (status, code) == ("RESOURCE_EXHAUSTED", "body_too_large")
    else:
        assert (status, code) == ("INVALID_ARGUMENT", "bad_parameter")
    assert len(detail) < 300


def test_other_statuses(stub: oip_pb2_grpc.GRPCInferenceServiceStub) -> None:
    broken = refused(lambda: stub.ModelInfer(message(LITE0, PICTURE, b"text")))
    assert broken[:2] == ("INVALID_ARGUMENT", "unsupported_format")
    assert broken[2].startswith("picture 1: ")
    unknown = ("NOT_FOUND", "unknown_model")
    assert refused(lambda: stub.ModelInfer(message("nothing", PICTURE)))[:2] == unknown
    ready = messages.ModelReadyRequest(name="nothing")
    assert refused(lambda: stub.ModelReady(ready))[:2] == unknown
    statistics = messages.ModelStatisticsRequest(name=LITE0, version="9")
    assert refused(lambda: stub.ModelStatistics(statistics))[:2] == unknown
    closed = ("PERMISSION_DENIED", "management_closed")
    load = messages.RepositoryModelLoadRequest(model_name=LITE0)
    assert refused(lambda: stub.RepositoryModelLoad(load))[:2] == closed
    unload = messages.RepositoryModelUnloadRequest(model_name=LITE0)
    assert refused(lambda: stub.RepositoryModelUnload(unload))[:2] == closed
    other = messages.RepositoryIndexRequest(repository_name="other")
    assert refused(lambda: stub.RepositoryIndex(other))[1] == "bad_parameter"


def test_what_is_not_loaded_or_refused_is_not_ready(tmp_path: Path) -> None:
    models = tmp_path / "models"
    for name in ("lenet5", "other", "broken"):
        copy_of("lenet5", models, name)
    (models / "broken" / "1" / "model.onnx").write_bytes(b"")
    ensemble(models, "both", Member(model="lenet5"), Member(model="other"), classes=10)
    settings: dict[str, Any] = {
        "zoo_default_model": "lenet5",
        "zoo_load": "broken",
        "zoo_management": "true",
    }
    with (
        serving(tmp_path, zoo_models=models, **settings) as server,
        grpc.insecure_channel(server.grpc_address) as channel,
    ):
        stub = oip_pb2_grpc.GRPCInferenceServiceStub(channel)
        server.logged("refused broken")
        get = server.client.get
        for name in ("other", "both", "broken"):
            reply = get(f"/v2/models/{name}/ready")
            assert (reply.status_code, reply.json()["ready"]) == (503, False)
            assert not stub.ModelReady(messages.ModelReadyRequest(name=name)).ready
        check(post(server, "broken", {"inputs": [IMAGE]}), 503, "not_ready")
        check(get("/v2/models/broken/config"), 503, "not_ready")
        states = {
            entry["name"]: entry["state"]
            for entry in server.client.post("/v2/repository/index").json()
        }
        assert states == {
            "lenet5": "READY",
            "lenet5.tensor": "READY",
            "lenet5.topk": "READY",
            "broken": "UNAVAILABLE",
            "other": "UNAVAILABLE",
            "other.tensor": "UNAVAILABLE",
            "other.topk": "UNAVAILABLE",
            "both": "UNAVAILABLE",
            "both.topk": "UNAVAILABLE",
        }
        check(post(server, "both.tensor", {"inputs": [IMAGE]}), 404, "unknown_model")
        vector = outputs_of(post(server, "both", {"inputs": [IMAGE]}))["probabilities"]
        best = outputs_of(post(server, "both.topk", {"inputs": [IMAGE]}))
        assert best["labels"].shape == (1, 5)
        np.testing.assert_allclose(vector[0, best["indices"][0]], best["scores"][0], atol=1e-6)
        assert get("/v2/models/both").json()["platform"] == "ensemble"
        logits = {"inputs": [IMAGE], "outputs": [{"name": "logits"}]}
        check(post(server, "both", logits), 400, "bad_parameter")
        assert get("/v2/models/other/ready").status_code == 200


def test_a_message_of_a_million_parts_is_refused_at_once(server: Server) -> None:
    """Each part has two bytes, and would become an object."""
    with grpc.insecure_channel(server.grpc_address) as channel:
        call = unary(channel, "/inference.GRPCInferenceService/ModelInfer")
        for field in (b"\x2a", b"\x32"):  # inputs, outputs
            with pytest.raises(grpc.RpcError) as raised:
                call(b"\x0a\x06lenet5" + (field + b"\x00") * 300_000, timeout=20)
            assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert "more than 16" in str(raised.value.details())
