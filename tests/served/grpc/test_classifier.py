"""gRPC with real clients: answers, errors, ids, health, reflection."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from google.rpc import code_pb2, error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from service.transports.grpc.protos import classifier_pb2 as messages
from service.transports.grpc.protos import classifier_pb2_grpc
from tests.harness.grpc_client import PICTURES, SECONDS, details, request, trailers, unary
from tests.server import Server

PROTOCOLS = [("efficientnet_lite0", "center"), ("efficientnet_lite0", "ten_crop")]
PROTOCOLS += [("lenet5", "center")]


@pytest.fixture
def channel(server: Server) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.grpc_address) as opened:
        yield opened


@pytest.fixture
def stub(channel: grpc.Channel) -> classifier_pb2_grpc.ClassifierStub:
    return classifier_pb2_grpc.ClassifierStub(channel)


@pytest.mark.parametrize(("model", "protocol"), PROTOCOLS)
@pytest.mark.parametrize("name", ["chelsea", "coffee"])
def test_every_way_gives_the_same_probabilities(
    server: Server,
    stub: classifier_pb2_grpc.ClassifierStub,
    model: str,
    protocol: str,
    name: str,
) -> None:
    query = {"model": model, "protocol": protocol, "top_k": 10}
    expected = server.classify(PICTURES[name], **query).json()["predictions"]
    asked = request(name, id="mine", **query)
    (streamed,) = stub.ClassifyStream(iter([asked]))
    for answer in (stub.Classify(asked), streamed):
        assert answer.id == "mine"
        (result,) = answer.results
        found = result.classification
        assert (found.model, found.version, found.protocol) == (model, "1", protocol)
        assert 0 < found.timing_ms.inference < found.timing_ms.total
        assert len(found.predictions) == 10
        for ours, theirs in zip(found.predictions, expected, strict=True):
            assert (ours.rank, ours.index, ours.label) == (
                theirs["rank"],
                theirs["index"],
                theirs["label"],
            )
            assert ours.synset == (theirs["synset"] or "")
            assert ours.probability == pytest.approx(theirs["probability"], abs=1e-6)


def test_under_a_long_queue_everyone_gets_an_answer_or_a_deadline(
    stub: classifier_pb2_grpc.ClassifierStub,
) -> None:
    """None is another's, none is missing."""
    names = [*PICTURES] * 12
    expected = {name: stub.Classify(request(name, top_k=1)).results[0] for name in PICTURES}
    many = [
        stub.Classify.future(
            request(name, top_k=1, id=f"{number}"),
            timeout=0.02 * number if number % 4 == 1 else SECONDS,
        )
        for number, name in enumerate(names)
    ]
    for call in many[2::4]:
        call.cancel()
    codes = []
    for number, (name, call) in enumerate(zip(names, many, strict=True)):
        if call.cancelled():
            continue
        codes.append(call.code())
        if codes[-1] is grpc.StatusCode.OK:
            answer, wanted = call.result(), expected[name].classification.predictions
            assert answer.id == f"{number}"
            assert answer.results[0].classification.predictions == wanted
        else:
            late = (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.RESOURCE_EXHAUSTED)
            assert number % 4 == 1  # what can only be late is refused
            assert codes[-1] in late
    assert len(codes) >= 45  # some were answered before they could be cancelled
    assert codes.count(grpc.StatusCode.OK) >= 30


def test_several_pictures_fail_each_on_its_own(stub: classifier_pb2_grpc.ClassifierStub) -> None:
    asked = request("chelsea", "coffee", top_k=1)
    asked.images.insert(1, b"no picture")
    first, broken, last = stub.Classify(asked).results
    assert first.classification.predictions[0].label != last.classification.predictions[0].label
    assert broken.error.code == code_pb2.INVALID_ARGUMENT
    info = error_details_pb2.ErrorInfo()
    assert broken.error.details[0].Unpack(info)
    assert info.reason == "unsupported_format"


@pytest.mark.parametrize(
    ("asked", "status", "code"),
    [
        (messages.ClassifyRequest(), "INVALID_ARGUMENT", "bad_parameter"),
        (messages.ClassifyRequest(images=[b""]), "INVALID_ARGUMENT", "undecodable_picture"),
        (messages.ClassifyRequest(images=[b"text"]), "INVALID_ARGUMENT", "unsupported_format"),
        (request("chelsea", model="nothing"), "NOT_FOUND", "unknown_model"),
        (request("chelsea", version="9"), "NOT_FOUND", "unknown_model"),
        (request("chelsea", protocol="none"), "INVALID_ARGUMENT", "bad_parameter"),
        (request("chelsea", top_k=0), "INVALID_ARGUMENT", "bad_parameter"),
        (request("chelsea", top_k=-1), "INVALID_ARGUMENT", "bad_parameter"),
        (request("chelsea", top_k=2**31 - 1), "INVALID_ARGUMENT", "bad_parameter"),
        (request("chelsea", exif=7), "INVALID_ARGUMENT", "bad_parameter"),
        (request("chelsea", id="x" * 257), "INVALID_ARGUMENT", "bad_parameter"),
        (request("chelsea", model="x" * 65), "INVALID_ARGUMENT", "bad_parameter"),
        (
            messages.ClassifyRequest(images=[PICTURES["chelsea"][:5000]]),
            "INVALID_ARGUMENT",
            "undecodable_picture",
        ),
        (
            messages.ClassifyRequest(images=[b"GIF89a"] * 33),
            "RESOURCE_EXHAUSTED",
            "body_too_large",
        ),
    ],
)
def test_what_cannot_be_answered_says_why(
    stub: classifier_pb2_grpc.ClassifierStub,
    asked: messages.ClassifyRequest,
    status: str,
    code: str,
) -> None:
    with pytest.raises(grpc.RpcError) as raised:
        stub.Classify(asked)
    assert raised.value.code() is grpc.StatusCode[status]
    assert details(raised.value)[0] == code


def test_bytes_that_are_no_message_are_refused(channel: grpc.Channel) -> None:
    call = unary(channel, "/zoo.v1.Classifier/Classify")
    with pytest.raises(grpc.RpcError) as raised:
        call(b"\xff\xff\xff\xff")
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert details(raised.value)[0] == "bad_parameter"


def test_the_request_id_is_taken_or_made(
    server: Server, stub: classifier_pb2_grpc.ClassifierStub
) -> None:
    _answer, call = stub.Classify.with_call(
        request("chelsea"), metadata=[("x-request-id", "grpc-1")]
    )
    assert dict(call.trailing_metadata())["x-request-id"] == "grpc-1"
    assert "code=ok" in server.logged("request_id=grpc-1")
    with pytest.raises(grpc.RpcError) as raised:
        stub.Classify(request("chelsea", model="none"), metadata=[("x-request-id", "bad id")])
    made = trailers(raised.value)["x-request-id"]
    assert len(made) == 32
    assert "code=unknown_model" in server.logged(f"request_id={made}")


def test_the_models_are_listed(stub: classifier_pb2_grpc.ClassifierStub) -> None:
    listed = stub.ListModels(messages.ListModelsRequest())
    assert listed.default_model == "efficientnet_lite0"
    models = {model.name: model for model in listed.models}
    assert models["lenet5"].classes == 10
    assert models["efficientnet_lite0"].state == "ready"
    assert models["efficientnet_lite0"].protocols[0] == "center"


def test_health_follows_readiness(channel: grpc.Channel) -> None:
    stub = health_pb2_grpc.HealthStub(channel)
    for name in ("", "zoo.v1.Classifier"):
        answer = stub.Check(health_pb2.HealthCheckRequest(service=name))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    with pytest.raises(grpc.RpcError) as raised:
        stub.Check(health_pb2.HealthCheckRequest(service="nothing"))
    assert raised.value.code() is grpc.StatusCode.NOT_FOUND
    assert details(raised.value)[0] == "not_found"


def test_a_reflection_client_finds_the_methods(channel: grpc.Channel) -> None:
    database = ProtoReflectionDescriptorDatabase(channel)
    assert "zoo.v1.Classifier" in database.get_services()
    service = DescriptorPool(database).FindServiceByName("zoo.v1.Classifier")
    assert set(service.methods_by_name) == {"Classify", "ClassifyStream", "ListModels"}


def test_requests_are_counted_by_transport(
    server: Server, stub: classifier_pb2_grpc.ClassifierStub
) -> None:
    sample = (
        'zoo_requests_total{code="ok",model="efficientnet_lite0",protocol="center",'
        'transport="grpc",version="1"}'
    )
    before = server.metric(sample)
    stub.Classify(request("chelsea"))
    assert server.metric(sample) == before + 1
