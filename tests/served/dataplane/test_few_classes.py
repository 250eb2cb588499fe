"""A model of three classes answers all of them where nothing is said, by every way in."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import onnx
import pytest
from onnx import numpy_helper

from service.manifest import Member
from service.transports.grpc.protos import classifier_pb2_grpc, oip_pb2, oip_pb2_grpc
from tests.harness.copies import copy_of, ensemble
from tests.harness.edited_versions import edit, resign
from tests.harness.grpc_client import PICTURES, request
from tests.server import Server, serving

NAMES = ("ant", "bee", "cat")
MODELS = ("three", "team")
PICTURE = PICTURES["chelsea"]


def three(models: Path, name: str) -> None:
    """LeNet-5 with the first three of its ten classes."""
    folder = copy_of("lenet5", models, name)
    graph = onnx.load(folder / "model.onnx")
    for tensor in graph.graph.initializer:
        if tensor.name.startswith("network.output."):
            values = numpy_helper.to_array(tensor)[: len(NAMES)]
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    for output in graph.graph.output:
        output.type.tensor_type.shape.dim[1].dim_value = len(NAMES)
    del graph.graph.value_info[:]
    onnx.save(graph, folder / "model.onnx")
    edit(folder, lambda manifest: manifest.update(classes=len(NAMES)))
    lines = [f"{index},,{label}" for index, label in enumerate(NAMES)]
    (folder / "labels.csv").write_text("\n".join(["index,synset,label", *lines, ""]))
    for changed in ("model.onnx", "labels.csv"):
        resign(folder, changed)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("few")
    models = folder / "models"
    three(models, "three")
    three(models, "other")
    ensemble(models, "team", Member(model="three"), Member(model="other"), classes=len(NAMES))
    with serving(folder, zoo_models=models, zoo_default_model="three", zoo_threads=1) as running:
        yield running


@pytest.fixture
def channel(server: Server) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.grpc_address) as opened:
        yield opened


@pytest.mark.parametrize("model", MODELS)
def test_http(server: Server, model: str) -> None:
    answer = server.classify(PICTURE, model=model)
    assert answer.status_code == 200
    assert {each["label"] for each in answer.json()["predictions"]} == set(NAMES)
    assert len(server.classify(PICTURE, model=model, top_k=2).json()["predictions"]) == 2
    refused = server.classify(PICTURE, model=model, top_k=4)
    assert refused.status_code == 400
    assert "allows 1 to 3" in refused.json()["detail"]


def test_http_with_the_default_model(server: Server) -> None:
    assert len(server.classify(PICTURE).json()["predictions"]) == len(NAMES)


@pytest.mark.parametrize("model", MODELS)
def test_grpc(channel: grpc.Channel, model: str) -> None:
    stub = classifier_pb2_grpc.ClassifierStub(channel)
    for asked in (request("chelsea", model=model), request("chelsea", model=model, id="x")):
        (streamed,) = stub.ClassifyStream(iter([asked]))
        for answer in (stub.Classify(asked), streamed):
            predictions = answer.results[0].classification.predictions
            assert {each.label for each in predictions} == set(NAMES)
    with pytest.raises(grpc.RpcError) as refused:
        stub.Classify(request("chelsea", model=model, top_k=4))
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_grpc_with_a_picture_alone(channel: grpc.Channel) -> None:
    answer = classifier_pb2_grpc.ClassifierStub(channel).Classify(request("chelsea"))
    assert len(answer.results[0].classification.predictions) == len(NAMES)


@pytest.mark.parametrize("model", MODELS)
def test_oip_over_rest(server: Server, model: str) -> None:
    path = f"/v2/models/{model}/infer"
    raw = server.client.post(
        path, content=PICTURE, headers={"Inference-Header-Content-Length": "0"}
    )
    assert raw.status_code == 200
    assert all(output["shape"][1] == len(NAMES) for output in raw.json()["outputs"])
    tensor = {"name": "image", "datatype": "BYTES", "shape": [1]}
    header: dict[str, Any] = {
        "inputs": [{**tensor, "parameters": {"binary_data_size": len(PICTURE) + 4}}]
    }
    for more, status in (({}, 200), ({"parameters": {"top_k": 4}}, 400)):
        answer = server.client.post(path, **with_binary({**header, **more}))
        assert answer.status_code == status


def with_binary(header: dict[str, Any]) -> dict[str, Any]:
    """A request of JSON and a picture behind it, as httpx takes it."""
    text = json.dumps(header).encode()
    content = text + struct.pack("<I", len(PICTURE)) + PICTURE
    return {"content": content, "headers": {"Inference-Header-Content-Length": str(len(text))}}


@pytest.mark.parametrize("model", MODELS)
def test_oip_over_grpc(channel: grpc.Channel, model: str) -> None:
    stub = oip_pb2_grpc.GRPCInferenceServiceStub(channel)
    asked = oip_pb2.ModelInferRequest(model_name=model)
    asked.inputs.add(name="image", datatype="BYTES", shape=[1])
    asked.raw_input_contents.append(struct.pack("<I", len(PICTURE)) + PICTURE)
    assert all(list(output.shape) == [1, len(NAMES)] for output in stub.ModelInfer(asked).outputs)
    asked.outputs.add(name="probabilities").parameters["classification"].int64_param = 2
    assert list(stub.ModelInfer(asked).outputs[0].shape) == [1, 2]
    asked.parameters["top_k"].int64_param = 4
    with pytest.raises(grpc.RpcError) as refused:
        stub.ModelInfer(asked)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
