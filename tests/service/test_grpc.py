"""gRPC with real clients: the classifier, health, reflection, limits, deadlines, streams."""

from __future__ import annotations

import queue
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from service.errors import ALL, Overloaded
from service.grpc.protos import classifier_pb2 as messages
from service.grpc.protos import classifier_pb2_grpc, oip_pb2, oip_pb2_grpc
from service.grpc.status import DETAILS_KEY, status_of
from tests.photographs import CHELSEA, CHINA, COFFEE, FLOWER, ROCKET
from tests.server import Server, serving
from tests.service.copies import copy_of

PICTURES = {path.stem: path.read_bytes() for path in (CHELSEA, CHINA, COFFEE, FLOWER, ROCKET)}
PROTOCOLS = [("efficientnet_lite0", "center"), ("efficientnet_lite0", "ten_crop")]
PROTOCOLS += [("lenet5", "center")]
LIMIT = 2_000_000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(
        tmp_path_factory.mktemp("grpc"), zoo_max_body_bytes=LIMIT, zoo_max_bodies_bytes=4 * LIMIT
    ) as running:
        yield running


@pytest.fixture
def channel(server: Server) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.grpc_address) as opened:
        yield opened


@pytest.fixture
def stub(channel: grpc.Channel) -> classifier_pb2_grpc.ClassifierStub:
    return classifier_pb2_grpc.ClassifierStub(channel)


def request(*names: str, **more: object) -> messages.ClassifyRequest:
    return messages.ClassifyRequest(images=[PICTURES[name] for name in names], **more)


def details(error: grpc.RpcError) -> tuple[str, status_pb2.Status]:
    """The stable code of an error, and its whole status."""
    trailing = dict(error.trailing_metadata())
    status = status_pb2.Status.FromString(trailing[DETAILS_KEY])
    assert status.code == error.code().value[0]
    assert status.message == error.details()
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert info.domain == "imagenet-zoo"
    return info.reason, status


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


def test_every_error_has_a_status_of_its_row() -> None:
    for kind in ALL:
        status = status_of(kind("why"))
        assert status.code == grpc.StatusCode[kind.grpc_status].value[0]
    retry = error_details_pb2.RetryInfo()
    assert status_of(Overloaded("full", retry_after=3)).details[1].Unpack(retry)
    assert retry.retry_delay.seconds == 3


def test_bytes_that_are_no_message_are_refused(channel: grpc.Channel) -> None:
    call = channel.unary_unary("/zoo.v1.Classifier/Classify")
    with pytest.raises(grpc.RpcError) as raised:
        call(b"\xff\xff\xff\xff")
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert details(raised.value)[0] == "bad_parameter"


def test_a_message_beyond_the_limit_is_refused(stub: classifier_pb2_grpc.ClassifierStub) -> None:
    with pytest.raises(grpc.RpcError) as raised:
        stub.Classify(messages.ClassifyRequest(images=[bytes(LIMIT + 1)]))
    assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert stub.Classify(request("chelsea")).results  # the connection lives


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
    made = dict(raised.value.trailing_metadata())["x-request-id"]
    assert len(made) == 32
    assert "code=unknown_model" in server.logged(f"request_id={made}")


def test_work_past_its_deadline_is_dropped(
    server: Server, stub: classifier_pb2_grpc.ClassifierStub
) -> None:
    with pytest.raises(grpc.RpcError) as raised:
        stub.Classify(request("chelsea", protocol="ten_crop"), timeout=0.005)
    assert raised.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


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


def test_a_stop_ends_open_streams_once_they_are_answered(tmp_path: Path) -> None:
    asked: queue.Queue[messages.ClassifyRequest] = queue.Queue()
    with (
        serving(tmp_path, zoo_load="used") as server,
        grpc.insecure_channel(server.grpc_address) as channel,
    ):
        stub = classifier_pb2_grpc.ClassifierStub(channel)
        streams = [stub.ClassifyStream(iter(asked.get, None)), oip_stream(channel)]
        asked.put(request("chelsea", protocol="ten_crop", id="first"))
        assert next(streams[0]).id == "first"
        asked.put(request("chelsea", protocol="ten_crop", id="last"))
        server.wait_for(lambda: server.metric("zoo_admitted_crops") == 10)
        server.process.send_signal(signal.SIGTERM)
        assert next(streams[0]).id == "last"
        for stream in streams:
            with pytest.raises(grpc.RpcError) as ended:
                next(stream)
            assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
        server.process.wait(15)  # the grace is ZOO_DEADLINE_MS, 30 s
        asked.put(None)


def oip_stream(channel: grpc.Channel) -> Iterator[oip_pb2.ModelStreamInferResponse]:
    """A stream of the other service that never asks for anything."""
    idle: queue.Queue[oip_pb2.ModelInferRequest] = queue.Queue()
    return oip_pb2_grpc.GRPCInferenceServiceStub(channel).ModelStreamInfer(iter(idle.get, None))


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


def test_health_says_when_the_default_model_is_broken(tmp_path: Path) -> None:
    models = tmp_path / "models"
    (copy_of("efficientnet_lite0", models, "efficientnet_lite0") / "model.onnx").write_bytes(b"")
    with (
        serving(tmp_path, zoo_models=models, ready=503) as server,
        grpc.insecure_channel(server.grpc_address) as channel,
    ):
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        assert answer.status == health_pb2.HealthCheckResponse.NOT_SERVING
        with pytest.raises(grpc.RpcError) as raised:
            classifier_pb2_grpc.ClassifierStub(channel).Classify(request("chelsea"))
        assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
        assert details(raised.value)[0] == "not_ready"


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
        'transport="grpc"}'
    )
    before = server.metric(sample)
    stub.Classify(request("chelsea"))
    assert server.metric(sample) == before + 1


def test_only_loopback_hears_by_default(server: Server) -> None:
    listening = [
        connection.laddr
        for worker in [*server.workers()]
        for connection in worker.net_connections(kind="inet")
        if connection.status == "LISTEN"
    ]
    assert listening
    # gRPC's sockets are of IPv6, which writes the same address like this
    assert {address.ip.removeprefix("::ffff:") for address in listening} == {"127.0.0.1"}
    port = int(server.grpc_address.rpartition(":")[2])
    assert port in {address.port for address in listening}


def test_two_workers_share_the_port(tmp_path: Path) -> None:
    with serving(tmp_path, zoo_workers=2, zoo_load="used") as server:
        server.logged("gRPC on", times=2, seconds=60)
        for _ in range(8):
            options = [("grpc.use_local_subchannel_pool", 1)]  # a connection of its own
            with grpc.insecure_channel(server.grpc_address, options=options) as channel:
                assert classifier_pb2_grpc.ClassifierStub(channel).Classify(request("chelsea"))


def test_port_0_serves_no_grpc(tmp_path: Path) -> None:
    with serving(tmp_path, zoo_grpc_port=0, zoo_load="used") as server:
        assert "gRPC on" not in server.log
        assert server.classify(PICTURES["chelsea"]).status_code == 200
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", 3001)) != 0


def test_a_name_that_is_no_text_does_not_end_the_service(server: Server) -> None:
    """grpcio 1.85 shuts its server down over one such frame."""
    host, port = server.grpc_address.split(":")
    fields = {":method": b"POST", ":scheme": b"http", ":path": b"/\xff\xfe/x", ":authority": b"x"}
    block = b"".join(
        b"\x00" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value
        for name, value in fields.items()
    )
    with socket.create_connection((host, int(port)), timeout=10) as raw:
        raw.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5))
        raw.sendall(len(block).to_bytes(3, "big") + b"\x01\x05" + (1).to_bytes(4, "big") + block)
        raw.recv(1000)

        def answered() -> bool:
            options = [("grpc.use_local_subchannel_pool", 1)]
            with grpc.insecure_channel(server.grpc_address, options=options) as channel:
                stub = classifier_pb2_grpc.ClassifierStub(channel)
                try:
                    return bool(stub.Classify(request("chelsea"), timeout=5).results)
                except grpc.RpcError:
                    return False

        server.wait_for(answered, 20)
        server.wait_for(answered, 20)


def test_what_asks_for_nothing_does_not_delay_a_stop(tmp_path: Path) -> None:
    idle: queue.Queue[object] = queue.Queue()
    with (
        serving(tmp_path, zoo_load="used") as server,
        grpc.insecure_channel(server.grpc_address) as channel,
    ):
        name = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
        stream = channel.stream_stream(name)(iter(idle.get, None))
        database = ProtoReflectionDescriptorDatabase(channel)
        assert database.get_services()
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(15)  # the grace is ZOO_DEADLINE_MS, 30 s
        stream.cancel()
        idle.put(None)


def test_a_port_in_use_stops_the_start(server: Server, tmp_path: Path) -> None:
    """A second service would share it, by SO_REUSEPORT."""
    port = server.grpc_address.rpartition(":")[2]
    with (
        pytest.raises(RuntimeError, match=f"ZOO_GRPC_PORT: 127.0.0.1:{port} is in use"),
        serving(tmp_path, zoo_grpc_port=port),
    ):
        pass
