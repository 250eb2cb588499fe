"""The life of the gRPC server: ports, workers, what ends it and what does not."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import queue
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from loadtests.clients import http2
from service.transports.grpc import lasting
from service.transports.grpc.methods import MAX_SMALL_BYTES, Methods
from service.transports.grpc.protos import classifier_pb2 as messages
from service.transports.grpc.protos import classifier_pb2_grpc, oip_pb2, oip_pb2_grpc
from tests.harness.copies import copy_of
from tests.harness.grpc_client import (
    PICTURES,
    SECONDS,
    connected,
    details,
    request,
    streaming,
    stub_of,
    wire,
)
from tests.server import Server, serving

CLASSIFY = b"/zoo.v1.Classifier/Classify"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("life"), zoo_load="used") as running:
        yield running


def test_a_stop_ends_open_streams_once_they_are_answered(tmp_path: Path) -> None:
    asked: queue.Queue[messages.ClassifyRequest | None] = queue.Queue()
    with (
        serving(tmp_path, zoo_load="used") as server,
        grpc.insecure_channel(server.grpc_address) as channel,
    ):
        stub = classifier_pb2_grpc.ClassifierStub(channel)
        streams = [stub.ClassifyStream(iter(asked.get, None)), oip_stream(channel)]
        asked.put(request("chelsea", protocol="ten_crop", id="first"))
        assert next(streams[0]).id == "first"
        asked.put(request(*["chelsea"] * 12, protocol="ten_crop", id="last"))
        server.wait_for(lambda: server.metric("zoo_admitted_crops") > 10, SECONDS)
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
    """The kernel gives each new connection to one of them; both get some, and all are answered."""
    with (
        serving(tmp_path, zoo_workers=2, zoo_default_model="lenet5", zoo_load="used") as server,
        contextlib.ExitStack() as stack,
    ):
        server.logged("gRPC on", times=2, seconds=60)
        port = int(server.grpc_address.rpartition(":")[2])

        def served_by_both() -> bool:
            stub = stub_of(stack.enter_context(connected(server)))
            assert stub.Classify(request("chelsea"), timeout=SECONDS).results
            return all(
                any(
                    each.status == "ESTABLISHED" and each.laddr.port == port
                    for each in worker.net_connections(kind="tcp")
                )
                for worker in server.workers()
            )

        server.wait_for(served_by_both, SECONDS)


def test_port_0_serves_no_grpc(tmp_path: Path) -> None:
    with serving(tmp_path, zoo_grpc_port=0, zoo_load="used") as server:
        assert "gRPC on" not in server.log
        assert server.classify(PICTURES["chelsea"]).status_code == 200
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", 3001)) != 0


def test_a_name_that_is_no_text_is_of_no_method_and_touches_nobody(server: Server) -> None:
    """The loop of grpcio 1.85 that accepts calls would end over one such frame."""
    asked: queue.Queue[messages.ClassifyRequest | None] = queue.Queue()
    host, port = server.grpc_address.split(":")
    with contextlib.ExitStack() as stack:
        watching, calling = (stack.enter_context(connected(server)) for _ in range(2))
        watch = health_pb2_grpc.HealthStub(watching).Watch(health_pb2.HealthCheckRequest())
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        stub = stub_of(calling)
        stream = stub.ClassifyStream(iter(asked.get, None))
        asked.put(request("chelsea", id="before"))
        assert next(stream).id == "before"
        for name in (b"/\xff\xfe/x", b"/zoo.v1.Classifier/Classify\xff") * 10:
            with wire(server) as raw:
                raw.begin(name, end=True)
                # neither the calls that come meanwhile nor new connections notice
                assert stub.Classify(request("chelsea"), timeout=SECONDS).results
                with connected(server) as channel:
                    assert stub_of(channel).Classify(request("chelsea"), timeout=SECONDS).results
                assert b"there is no such method" in next(raw.trailers())[1]
            socket.create_connection((host, int(port)), timeout=SECONDS).close()
        asked.put(request("chelsea", id="after"))
        assert next(stream).id == "after"
        asked.put(None)
        assert watch.is_active()
        watch.cancel()
    assert "gRPC goes on with a new server" not in server.log


def test_a_server_that_has_failed_says_so_and_finishes_its_calls() -> None:
    async def check() -> None:
        server = lasting.made(Silent(), ())
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        failing = asyncio.ensure_future(broken())
        await asyncio.wait({failing})
        server._server._serving_task_crash_handler(failing)  # type: ignore[attr-defined]
        await asyncio.wait_for(lasting.failed(server), SECONDS)
        socket.create_connection(("127.0.0.1", port), timeout=SECONDS).close()  # a successor's turn
        await asyncio.wait_for(lasting.finished(server), SECONDS)
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0

    async def broken() -> None:
        raise RuntimeError("of whatever kind")

    class Silent(Methods):
        def __init__(self) -> None:
            self._handlers = {}

    asyncio.run(check())


def test_bytes_that_are_no_text_neither_end_a_call_nor_fill_the_log(server: Server) -> None:
    """Of the head of a call; grpcio logs a traceback for each such value of metadata."""
    bad = b"\xff\xfe\x00\n"
    names = (b":method", b":authority", b"te", b"content-type", b"grpc-timeout", b"grpc-encoding")
    usual = dict(http2.fields(CLASSIFY))
    heads = [{**usual, name: bad} for name in names]
    heads.append(usual | {b"x-%d" % number: bad for number in range(50)} | {b"x-bin": b"!"})
    heads.append({**usual, b"grpc-timeout": b"99999999999H", b"grpc-accept-encoding": bad})
    with connected(server) as channel:
        stub = stub_of(channel)
        assert stub.Classify(request("chelsea"), timeout=SECONDS).results
        before = len(server.log)
        for head in heads:
            with wire(server) as raw:
                block = b"".join(itertools.starmap(http2.field, head.items()))
                raw.send(http2.HEADERS, http2.END_HEADERS | http2.END_STREAM, 1, block)
                assert any(
                    kind in (http2.HEADERS, http2.RST_STREAM, http2.GOAWAY)
                    for kind, *_ in raw.frames()
                )
        assert stub.Classify(request("chelsea"), timeout=SECONDS).results
    assert "gRPC goes on with a new server" not in server.log
    assert len(server.log) - before < 1000 * len(heads)


def test_what_asks_for_nothing_does_not_delay_a_stop(tmp_path: Path) -> None:
    idle: queue.Queue[object] = queue.Queue()
    with (
        serving(tmp_path, zoo_load="used") as server,
        grpc.insecure_channel(server.grpc_address) as channel,
    ):
        name = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
        stream = streaming(channel, name)(iter(idle.get, None))
        database = ProtoReflectionDescriptorDatabase(channel)
        assert database.get_services()
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(15)  # the grace is ZOO_DEADLINE_MS, 30 s
        stream.cancel()
        idle.put(None)


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_reflection_tells_of_every_service(server: Server, version: str) -> None:
    """A client that knows nothing can describe all that is listed, reflection itself too."""
    service = f"grpc.reflection.{version}.ServerReflection"
    with grpc.insecure_channel(server.grpc_address) as channel:
        ask = channel.stream_stream(
            f"/{service}/ServerReflectionInfo",
            reflection_pb2.ServerReflectionRequest.SerializeToString,
            reflection_pb2.ServerReflectionResponse.FromString,
        )
        (answer,) = ask(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
        names = [each.name for each in answer.list_services_response.service]
        assert names == [
            "grpc.health.v1.Health",
            "grpc.reflection.v1.ServerReflection",
            "grpc.reflection.v1alpha.ServerReflection",
            "inference.GRPCInferenceService",
            "zoo.v1.Classifier",
        ]
        asked = [reflection_pb2.ServerReflectionRequest(file_containing_symbol=n) for n in names]
        files = [
            descriptor_pb2.FileDescriptorProto.FromString(each)
            for answer in ask(iter(asked))
            for each in answer.file_descriptor_response.file_descriptor_proto
        ]
    known = descriptor_pool.DescriptorPool()
    for _ in files:  # in no order
        for file in files:
            with contextlib.suppress(TypeError):  # another must come first
                known.Add(file)
    methods = {name: known.FindServiceByName(name).methods_by_name for name in names}
    (own,) = methods[service].values()
    assert own.name == "ServerReflectionInfo"
    assert own.input_type.full_name == f"grpc.reflection.{version}.ServerReflectionRequest"
    assert own.output_type.fields_by_name["error_response"].message_type.file is own.input_type.file
    assert "Classify" in methods["zoo.v1.Classifier"]


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_reflection_is_bounded_in_every_version(server: Server, version: str) -> None:
    name = f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo"
    with connected(server) as channel, pytest.raises(grpc.RpcError) as refused:
        next(streaming(channel, name)(iter([bytes(MAX_SMALL_BYTES + 1)])))
    assert details(refused.value)[0] == "body_too_large"


def test_a_port_in_use_stops_the_start(server: Server, tmp_path: Path) -> None:
    """A second service would share it, by SO_REUSEPORT."""
    port = server.grpc_address.rpartition(":")[2]
    with (
        pytest.raises(RuntimeError, match=f"ZOO_GRPC_PORT: 127.0.0.1:{port} is in use"),
        serving(tmp_path, zoo_grpc_port=port),
    ):
        pass
