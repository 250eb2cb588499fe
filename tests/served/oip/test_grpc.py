"""The Open Inference Protocol over gRPC, on a real server with real pictures."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from service.transports.grpc.protos import classifier_pb2, classifier_pb2_grpc, oip_pb2_grpc
from service.transports.grpc.protos import oip_pb2 as messages
from tests.harness.oip_client import (
    base64_input,
    crops_of,
    message,
    outputs_of,
    outputs_of_message,
    post,
    set_parameters,
)
from tests.photographs import CHELSEA, COFFEE
from tests.server import Server

PICTURES = [CHELSEA.read_bytes(), COFFEE.read_bytes()]
LITE0 = "efficientnet_lite0"
SERVICE = "inference.GRPCInferenceService"
Stub = oip_pb2_grpc.GRPCInferenceServiceStub


@pytest.fixture
def channel(server: Server) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.grpc_address) as opened:
        yield opened


@pytest.fixture
def stub(channel: grpc.Channel) -> Stub:
    return Stub(channel)


def pixels(model: str, crops: np.ndarray) -> messages.ModelInferRequest:
    asked = messages.ModelInferRequest(
        model_name=f"{model}.tensor", raw_input_contents=[crops.tobytes()]
    )
    asked.inputs.add(name="pixels", datatype="UINT8", shape=crops.shape)
    return asked


@pytest.mark.parametrize(
    ("model", "protocol"), [(LITE0, "center"), (LITE0, "ten_crop"), ("lenet5", "center")]
)
def test_every_way_gives_the_same_probabilities(
    server: Server, channel: grpc.Channel, stub: Stub, model: str, protocol: str
) -> None:
    asked: dict[str, Any] = {"protocol": protocol, "top_k": 7}
    face = f"{model}.topk"
    answer = stub.ModelInfer(message(face, *PICTURES, **asked))
    assert (answer.model_name, answer.model_version) == (face, "1")
    found = outputs_of_message(answer)
    rest = outputs_of(
        post(server, face, {"parameters": asked, "inputs": [base64_input(*PICTURES)]})
    )
    assert list(found) == list(rest) == ["scores", "indices", "labels"]
    np.testing.assert_allclose(found["scores"], rest["scores"], atol=1e-6)
    np.testing.assert_array_equal(found["indices"], rest["indices"])
    np.testing.assert_array_equal(found["labels"], rest["labels"])
    ours = classifier_pb2_grpc.ClassifierStub(channel).Classify(
        classifier_pb2.ClassifyRequest(images=PICTURES, model=model, **asked)
    )
    vectors = outputs_of_message(stub.ModelInfer(message(model, *PICTURES, protocol=protocol)))
    assert list(vectors) == ["probabilities"]
    for row, result in enumerate(ours.results):
        expected = [each.probability for each in result.classification.predictions]
        np.testing.assert_allclose(found["scores"][row], expected, atol=1e-6)
        vector = vectors["probabilities"][row]
        np.testing.assert_allclose(vector[found["indices"][row]], expected, atol=1e-6)


@pytest.mark.parametrize("typed", [False, True])
def test_crops_give_what_their_picture_gives(server: Server, stub: Stub, typed: bool) -> None:
    crops = crops_of(LITE0, "center", PICTURES[1])
    asked = pixels(LITE0, crops)
    if typed:
        del asked.raw_input_contents[:]
        asked.inputs[0].contents.uint_contents.extend(crops.ravel().tolist())
    for name in ("probabilities", "logits"):
        asked.outputs.add(name=name)
    found = outputs_of_message(stub.ModelInfer(asked))
    first = server.classify(PICTURES[1]).json()["predictions"][0]
    assert found["probabilities"].shape == found["logits"].shape == (1, 1000)
    assert found["probabilities"][0, first["index"]] == pytest.approx(
        first["probability"], abs=1e-6
    )
    assert found["logits"].argmax() == first["index"]


def test_pictures_may_be_typed_contents(server: Server, stub: Stub) -> None:
    asked = message(f"{LITE0}.topk", PICTURES[1])
    del asked.raw_input_contents[:]
    asked.inputs[0].contents.bytes_contents.append(PICTURES[1])
    assert outputs_of_message(stub.ModelInfer(asked))["labels"][0, 0] == "espresso"


def test_outputs_come_as_requested(stub: Stub) -> None:
    asked = message(f"{LITE0}.topk", PICTURES[1], top_k=2)
    asked.id = "mine"
    asked.outputs.add(name="labels")
    set_parameters(asked.outputs.add(name="scores"), {"classification": 3})
    answer = stub.ModelInfer(asked)
    assert answer.id == "mine"
    found = outputs_of_message(answer)
    assert list(found) == ["labels", "scores"]
    assert found["labels"].tolist() == [["espresso", "cup"]]
    texts = found["scores"][0]
    assert [text.split(":", 1)[1] for text in texts] == ["967:espresso", "968:cup", "925:consomme"]


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_messages_may_be_compressed(stub: Stub, compression: grpc.Compression) -> None:
    answer = stub.ModelInfer(message(f"{LITE0}.topk", PICTURES[1]), compression=compression)
    assert outputs_of_message(answer)["labels"][0, 0] == "espresso"


def test_a_stream_answers_each_request_by_its_id(stub: Stub) -> None:
    count = 100  # more than a stream has in work at a time
    requests = []
    for index in range(count):
        asked = message("lenet5.topk", PICTURES[index % 2], top_k=1)
        asked.id = str(index)
        requests.append(asked)
    requests[17].model_name = "nothing"
    requests[30].raw_input_contents[0] = b"\xff\xff\xff\xff"
    set_parameters(requests[40], {"triton_enable_empty_final_response": True})
    answers = {each.infer_response.id: each for each in stub.ModelStreamInfer(iter(requests))}
    assert set(answers) == {str(index) for index in range(count)}
    assert answers["17"].error_message.startswith("[unknown_model] there is no model 'nothing'")
    assert answers["30"].error_message.startswith("[bad_parameter]")
    assert answers["40"].infer_response.parameters["triton_final_response"].bool_param
    for index in set(range(count)) - {17, 30}:
        answer = answers[str(index)]
        assert not answer.error_message
        same = answers[str(index % 2)]
        ours, theirs = (outputs_of_message(each.infer_response) for each in (answer, same))
        np.testing.assert_allclose(ours["scores"], theirs["scores"], atol=1e-6)


def test_the_server_and_its_models_describe_themselves(server: Server, stub: Stub) -> None:
    assert stub.ServerLive(messages.ServerLiveRequest()).live
    assert stub.ServerReady(messages.ServerReadyRequest()).ready
    about = stub.ServerMetadata(messages.ServerMetadataRequest())
    rest = server.client.get("/v2").json()
    assert [about.name, about.version, list(about.extensions)] == list(rest.values())
    for name in (LITE0, f"{LITE0}.tensor", f"{LITE0}.topk"):
        assert stub.ModelReady(messages.ModelReadyRequest(name=name, version="1")).ready
        metadata = stub.ModelMetadata(messages.ModelMetadataRequest(name=name))
        rest = server.client.get(f"/v2/models/{name}").json()
        for ours, theirs in ((metadata.inputs, "inputs"), (metadata.outputs, "outputs")):
            assert [
                {"name": t.name, "datatype": t.datatype, "shape": list(t.shape)} for t in ours
            ] == rest[theirs]
        config = stub.ModelConfig(messages.ModelConfigRequest(name=name)).config
        rest = server.client.get(f"/v2/models/{name}/config").json()
        assert config.max_batch_size == rest["max_batch_size"]
        assert [list(tensor.dims) for tensor in config.input] == [
            tensor["dims"] for tensor in rest["input"]
        ]
        assert config.parameters["classes"].string_value == "1000"


def test_health_and_reflection_know_the_service(channel: grpc.Channel) -> None:
    health = health_pb2_grpc.HealthStub(channel)
    answer = health.Check(health_pb2.HealthCheckRequest(service=SERVICE))
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
    database = ProtoReflectionDescriptorDatabase(channel)
    assert SERVICE in database.get_services()
    methods = DescriptorPool(database).FindServiceByName(SERVICE).methods_by_name
    assert {"ModelInfer", "ModelStreamInfer", "ModelConfig", "RepositoryIndex"} <= set(methods)
