"""deploy/nginx/nginx.conf in front of the running service, and in front of nobody.

That it tries again under load is in tests/served/loadtests/test_scaleout.py.
"""

from __future__ import annotations

import contextlib
import json
import socketserver
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import grpc
import httpx
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from loadtests.harness import fleet
from loadtests.harness.photographs import jpeg, photograph
from loadtests.harness.server import free_port
from service.errors import BodyTooLarge, ManagementClosed, NotReady
from service.transports.grpc.protos import (
    classifier_pb2,
    classifier_pb2_grpc,
    oip_pb2,
    oip_pb2_grpc,
)
from tests.capabilities import demand
from tests.harness.grpc_client import unary
from tests.server import Server

PICTURE = jpeg(photograph("coffee.png").resize((300, 200)))
CALL = classifier_pb2.ClassifyRequest(images=[PICTURE])


@dataclass
class Address:
    port: int
    grpc_port: int


@dataclass
class Front:
    """nginx, and clients of it."""

    client: httpx.Client
    channel: grpc.Channel


@contextlib.contextmanager
def front(folder: Path, replicas: list[Address]) -> Iterator[Front]:
    demand("nginx")
    with (
        fleet.balanced(replicas, folder) as nginx,
        httpx.Client(base_url=f"http://127.0.0.1:{nginx.port}", timeout=30) as client,
        grpc.insecure_channel(f"127.0.0.1:{nginx.grpc_port}") as channel,
    ):
        yield Front(client, channel)


@pytest.fixture(scope="module")
def nginx(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    port, grpc_port = (int(place.rpartition(":")[2]) for place in (server.url, server.grpc_address))
    with front(tmp_path_factory.mktemp("nginx"), [Address(port, grpc_port)] * 3) as running:
        yield running


def test_a_picture_is_classified_as_without_it(nginx: Front, server: Server) -> None:
    answer = nginx.client.post(
        "/classify?top_k=2", content=PICTURE, headers={"X-Request-ID": "of-the-client"}
    )
    assert answer.status_code == 200
    assert answer.headers["x-request-id"] == "of-the-client"
    direct = server.classify(PICTURE, top_k=2).json()
    assert answer.json()["predictions"] == direct["predictions"]
    reply = classifier_pb2_grpc.ClassifierStub(nginx.channel).Classify(CALL, timeout=30)
    (first, *_) = reply.results[0].classification.predictions
    assert first.index == direct["predictions"][0]["index"]


def test_a_request_without_an_id_gets_one(nginx: Front) -> None:
    answers = [nginx.client.post("/classify", content=PICTURE) for _ in range(2)]
    assert len({answer.headers["x-request-id"] for answer in answers}) == 2


def test_a_stream_goes_through_both_ways(nginx: Front) -> None:
    stub = classifier_pb2_grpc.ClassifierStub(nginx.channel)
    requests = [classifier_pb2.ClassifyRequest(images=[PICTURE], id=str(n)) for n in range(20)]
    answers = list(stub.ClassifyStream(iter(requests), timeout=60))
    assert {answer.id for answer in answers} == {request.id for request in requests}
    assert not any(answer.HasField("error") for answer in answers)


def test_health_is_the_services(nginx: Front) -> None:
    assert nginx.client.get("/readyz").status_code == 200
    stub = health_pb2_grpc.HealthStub(nginx.channel)
    reply = stub.Check(health_pb2.HealthCheckRequest(), timeout=30)
    assert reply.status == health_pb2.HealthCheckResponse.SERVING


def test_what_concerns_one_replica_stays_behind(nginx: Front) -> None:
    assert nginx.client.get("/metrics").status_code == 404
    for path in ("/v2/repository/index", "/v2/repository/models/lenet5/unload"):
        is_problem(nginx.client.post(path, json={}), ManagementClosed.http_status, "management")
    stub = oip_pb2_grpc.GRPCInferenceServiceStub(nginx.channel)
    with pytest.raises(grpc.RpcError) as refused:
        stub.RepositoryIndex(oip_pb2.RepositoryIndexRequest(), timeout=30)
    assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert stub.ServerLive(oip_pb2.ServerLiveRequest(), timeout=30).live


def test_a_body_beyond_the_services_limit_is_refused(nginx: Front) -> None:
    answer = nginx.client.post("/classify", content=bytes(33 * 1024 * 1024))
    is_problem(answer, BodyTooLarge.http_status, BodyTooLarge.code)
    # one that nginx keeps on disk, and the service reads
    answer = nginx.client.post("/classify", content=bytes(3 * 1024 * 1024))
    assert answer.json()["code"] == "unsupported_format"


def is_problem(answer: httpx.Response, status: int, code: str) -> None:
    """A problem document as the service writes them."""
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    content = json.loads(answer.content)
    assert set(content) == {"type", "title", "status", "code", "detail"}
    assert content["status"] == status
    assert content["code"].startswith(code)


@contextlib.contextmanager
def dying() -> Iterator[tuple[int, list[bytes]]]:
    """A replica that ends within every request: its port, and what it has been asked."""
    asked: list[bytes] = []

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            asked.append(self.request.recv(65536))

    with socketserver.ThreadingTCPServer(("127.0.0.1", free_port()), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server.server_address[1], asked
        finally:
            server.shutdown()


def test_a_picture_whose_replica_ends_is_answered_by_another(
    server: Server, tmp_path: Path
) -> None:
    port, grpc_port = (int(place.rpartition(":")[2]) for place in (server.url, server.grpc_address))
    with dying() as (end, asked):
        good = Address(port, grpc_port)
        with front(tmp_path, [Address(end, grpc_port), good, good]) as nginx:
            answers = [nginx.client.post("/classify", content=PICTURE) for _ in range(9)]
    assert [answer.status_code for answer in answers] == [200] * 9
    assert any(request.startswith(b"POST /classify ") for request in asked)


class Refusing(grpc.GenericRpcHandler):
    """A replica that answers the third try of a call, whatever it is."""

    def __init__(self, code: grpc.StatusCode) -> None:
        self.code = code
        self.tries = 0

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        if "Health" in details.method:
            return None  # another has it
        return grpc.unary_unary_rpc_method_handler(self.answer)

    def answer(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        del request
        self.tries += 1
        if self.tries < 3:
            context.abort(self.code, "another one")
        return b""


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED])
@pytest.mark.parametrize(
    "method", ["zoo.v1.Classifier/Classify", "inference.GRPCInferenceService/ModelInfer"]
)
def test_clients_with_our_policy_try_again(code: grpc.StatusCode, method: str) -> None:
    replica = Refusing(code)
    server = grpc.server(ThreadPoolExecutor(2), handlers=[replica])
    health_pb2_grpc.add_HealthServicer_to_server(health.HealthServicer(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    options = [("grpc.service_config", fleet.SERVICE_CONFIG.read_text())]
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}", options) as channel:
            assert unary(channel, f"/{method}")(b"", timeout=30) == b""
    finally:
        server.stop(None)
    assert replica.tries == 3


def test_without_a_replica_it_says_so(tmp_path: Path) -> None:
    nobody = [Address(free_port(), free_port()) for _ in range(3)]
    with front(tmp_path, nobody) as alone:
        answer = alone.client.post("/classify", content=PICTURE)
        is_problem(answer, NotReady.http_status, NotReady.code)
        assert answer.headers["retry-after"] == "1"
        with pytest.raises(grpc.RpcError) as failed:
            classifier_pb2_grpc.ClassifierStub(alone.channel).Classify(CALL, timeout=30)
        assert failed.value.code() is grpc.StatusCode.UNAVAILABLE
        assert failed.value.details() == "no replica answered"
