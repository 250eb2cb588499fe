"""The specification's own example requests, as they stand, to a model of the name they use.

Inference in them goes to `input0` UINT32 and `input1` BOOL. A model of this service takes one
input, `image` or `pixels`, so it must say clearly that these are not its own: see docs/oip.md.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from service.transports.grpc.protos import oip_pb2, oip_pb2_grpc
from tests.harness.copies import copy_of
from tests.harness.oip_client import HEADER
from tests.server import Server, serving

FIRST: dict[str, Any] = {"name": "input0", "shape": [2, 2], "datatype": "UINT32"}
SECOND: dict[str, Any] = {"name": "input1", "shape": [3], "datatype": "BOOL"}
VALUES = {"data": [1, 2, 3, 4]}
JSON = {
    "inference": {
        "id": "42",
        "inputs": [FIRST | VALUES, SECOND | {"data": [True]}],
        "outputs": [{"name": "output0"}],
    },
    "classification": {
        "id": "42",
        "inputs": [FIRST | VALUES],
        "outputs": [{"name": "output0", "parameters": {"classification": 2}}],
    },
}
"""Of the protocol, and of Triton's classification extension."""
BEFORE_BINARY = json.dumps(
    {
        "model_name": "mymodel",
        "inputs": [
            FIRST | {"parameters": {"binary_data_size": 16}},
            SECOND | {"parameters": {"binary_data_size": 3}},
        ],
        "outputs": [{"name": "output0", "parameters": {"binary_data": True}}],
    },
    indent=2,
).encode()
"""Of Triton's binary tensor data extension."""
INPUT0 = b"".join(value.to_bytes(4, "little") for value in (1, 2, 3, 4))
INPUT1 = b"\1\1\1"
INFER = "/v2/models/mymodel/infer"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("specification")
    for name in ("lenet5", "mymodel"):
        copy_of("lenet5", folder / "models", name)
    settings: dict[str, Any] = {"zoo_default_model": "lenet5", "zoo_management": True}
    with serving(folder, zoo_models=folder / "models", **settings) as running:
        yield running


@pytest.mark.parametrize("asked", JSON.values(), ids=list(JSON))
@pytest.mark.parametrize("face", ["", ".tensor"])
def test_inference_in_json(server: Server, asked: dict[str, Any], face: str) -> None:
    reply = server.client.post(
        INFER.replace("mymodel", f"mymodel{face}"),
        json=asked,
    )
    assert (reply.status_code, reply.json()["code"]) == (400, "bad_parameter")
    assert reply.json()["error"] == (
        "the tensor 'input0' is of datatype 'UINT32'; inputs are BYTES, UINT8 or FP32"
    )


def test_inference_in_binary(server: Server) -> None:
    body = BEFORE_BINARY + INPUT0 + INPUT1
    headers = {"Content-Type": "application/octet-stream", HEADER: str(len(BEFORE_BINARY))}
    reply = server.client.post(INFER, content=body, headers=headers)
    assert (reply.status_code, reply.json()["code"]) == (400, "bad_parameter")
    assert "'input0' is of datatype 'UINT32'" in reply.json()["error"]


def test_raw_binary_of_the_only_input(server: Server) -> None:
    """The request is understood; what the 16 bytes are not is a picture, or a crop."""
    headers = {"Content-Type": "application/octet-stream", HEADER: "0"}
    reply = server.client.post(INFER, content=INPUT0, headers=headers)
    assert (reply.status_code, reply.json()["code"]) == (415, "unsupported_format")
    reply = server.client.post("/v2/models/mymodel.tensor/infer", content=INPUT0, headers=headers)
    assert (reply.status_code, reply.json()["code"]) == (400, "bad_parameter")
    assert "the body has 16 bytes" in reply.json()["error"]


def test_inference_over_grpc(server: Server) -> None:
    request = oip_pb2.ModelInferRequest(model_name="mymodel", id="42")
    first = request.inputs.add(name="input0", datatype="UINT32", shape=[2, 2])
    first.contents.uint_contents.extend([1, 2, 3, 4])
    second = request.inputs.add(name="input1", datatype="BOOL", shape=[3])
    second.contents.bool_contents.append(True)
    request.outputs.add(name="output0")
    channel = grpc.insecure_channel(server.grpc_address)
    with channel, pytest.raises(grpc.RpcError) as refused:
        oip_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(request)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "'input0'" in str(refused.value.details())


def test_what_the_others_answer(server: Server) -> None:
    """Health, metadata, and Triton's repository: the members that the specification names."""
    get = server.client.get
    assert get("/v2/health/live").status_code == 200
    assert get("/v2/health/ready").status_code == 200
    assert get("/v2/models/mymodel/ready").json() == {"name": "mymodel", "ready": True}
    assert get("/v2").json().keys() == {"name", "version", "extensions"}
    about = get("/v2/models/mymodel").json()
    assert about.keys() == {"name", "versions", "platform", "inputs", "outputs"}
    for tensor in (*about["inputs"], *about["outputs"]):
        assert tensor.keys() == {"name", "datatype", "shape"}
    post = server.client.post
    assert post("/v2/repository/models/mymodel/unload").json() == {}
    assert get("/v2/models/mymodel/ready").status_code == 503
    assert post("/v2/repository/models/mymodel/load").json() == {}
    entries = post("/v2/repository/index", json={"ready": True}).json()
    assert {"name": "mymodel", "version": "1", "state": "READY", "reason": ""} in entries
    statistics = get("/v2/models/stats").json()["model_stats"]
    assert {entry["name"] for entry in statistics} == {"lenet5", "mymodel"}
