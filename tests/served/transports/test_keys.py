"""Keys on both ports: who is let in, who is not, and what is told about it."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from service.transports.grpc.protos import classifier_pb2 as messages
from service.transports.grpc.protos import classifier_pb2_grpc
from service.transports.grpc.status import DETAILS_KEY
from tests.harness.grpc_client import streaming, trailers, unary
from tests.photographs import CHELSEA
from tests.server import Server, serving

PICTURE = CHELSEA.read_bytes()
API = "api-key-of-sixteen-or-more"
FILED = "api!key#from(a)file,with=signs"
ADMIN = "admin-key-of-sixteen-or-more"
WRONG = "no-such-key-of-sixteen-or-more"
KEYS = (API, FILED, ADMIN, WRONG)

PROBES = ("/livez", "/readyz")
PAGES = ("/docs", "/openapi.json", "/docs/static/swagger-ui.css")
KEYED = ("/models", "/models/lenet5", "/metrics", "/nothing", "/v2", "/v2/models/lenet5")
MANAGED = ("/v2/repository/index", "/v2/repository/models/lenet5/load", "/v2/repository")
RPCS = ("RepositoryIndex", "RepositoryModelLoad", "RepositoryModelUnload")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    (folder / "api").write_text(f"# of the team\n\n  {FILED}  \n")
    (folder / "admin").write_text(ADMIN)
    with serving(
        folder,
        zoo_default_model="lenet5",
        zoo_load="used",
        zoo_log_format="json",
        zoo_api_keys=f"{API}, another-key-of-sixteen",
        zoo_api_keys_file=folder / "api",
        zoo_admin_keys_file=folder / "admin",
    ) as running:
        yield running


@pytest.fixture
def channel(server: Server) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.grpc_address) as opened:
        yield opened


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def metadata(key: str) -> list[tuple[str, str]]:
    return [("authorization", f"Bearer {key}")]


def status(server: Server, path: str, headers: dict[str, str]) -> int:
    return server.client.get(path, headers=headers).status_code


@pytest.mark.parametrize("path", [*PROBES, *PAGES])
def test_probes_and_the_description_are_open(server: Server, path: str) -> None:
    assert status(server, path, {}) == status(server, path, bearer(WRONG)) == 200


@pytest.mark.parametrize("path", KEYED)
def test_everything_else_needs_a_key(server: Server, path: str) -> None:
    for headers in ({}, bearer(WRONG), bearer(API[:-1]), bearer(API + "x"), bearer("x" * 5000)):
        reply = server.client.get(path, headers=headers)
        assert (reply.status_code, reply.json()["code"]) == (401, "unauthorized")
        assert reply.headers["WWW-Authenticate"] == "Bearer"
        assert reply.headers["Content-Type"] == "application/problem+json"
        assert reply.json()["request_id"] == reply.headers["X-Request-ID"]
    answered = {status(server, path, bearer(key)) for key in (API, FILED, ADMIN)}
    assert answered <= {200, 404}
    assert len(answered) == 1


@pytest.mark.parametrize(
    "authorization",
    ["", "Bearer", API, f"Basic {API}", f"Bearer{API}", f"Bearer {API} {API}", "é" * 20],
)
def test_a_key_is_shown_as_a_bearer_token(server: Server, authorization: str) -> None:
    headers = {b"Authorization": authorization.encode()}
    reply = server.client.get("/models", headers=headers)
    assert (reply.status_code, reply.json()["code"]) == (401, "unauthorized")
    assert status(server, "/models", {"Authorization": f"bearer  {API}"}) == 200


@pytest.mark.parametrize("path", MANAGED)
def test_management_needs_an_administrators_key(server: Server, path: str) -> None:
    for method in ("GET", "POST"):
        for headers, expected, code in [
            ({}, 401, "unauthorized"),
            (bearer(WRONG), 401, "unauthorized"),
            (bearer(API), 403, "forbidden"),
            (bearer(FILED), 403, "forbidden"),
        ]:
            reply = server.client.request(method, path, headers=headers)
            assert (reply.status_code, reply.json()["code"]) == (expected, code)
        answer = server.client.request(method, path, headers=bearer(ADMIN)).json()
        refused = isinstance(answer, dict) and answer.get("code") in ("unauthorized", "forbidden")
        assert not refused


def test_a_classification_needs_a_key(server: Server) -> None:
    for key, expected in ((WRONG, 401), (API, 200), (FILED, 200), (ADMIN, 200)):
        reply = server.client.post("/classify", content=PICTURE, headers=bearer(key))
        assert reply.status_code == expected
    reply = server.client.post("/classify", content=bytes(20_000_000))  # an upload in flight
    assert (reply.status_code, reply.json()["code"]) == (401, "unauthorized")


def test_the_refusal_does_not_wait_for_the_body(server: Server) -> None:
    address = urlsplit(server.url)
    with socket.create_connection((address.hostname, address.port), timeout=10) as connection:
        connection.sendall(b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000\r\n\r\n")
        answer = connection.recv(65536)
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert b"connection: close" in answer.lower()


def test_openapi_says_which_routes_ask_for_a_key(server: Server) -> None:
    document = server.client.get("/openapi.json").json()
    scheme = document["components"]["securitySchemes"]["bearer"]
    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")
    for path, item in document["paths"].items():
        for method, operation in item.items():
            reply = server.client.request(method, path.replace("{name}", "lenet5"))
            assert (reply.status_code == 401) == bool(operation["security"]), path
            assert ("401" in operation["responses"]) == bool(operation["security"])


def failure(call: grpc.RpcError) -> tuple[grpc.StatusCode, str]:
    info = error_details_pb2.ErrorInfo()
    assert status_pb2.Status.FromString(trailers(call)[DETAILS_KEY]).details[0].Unpack(info)
    assert trailers(call)["x-request-id"]
    return call.code(), info.reason


UNKNOWN = (grpc.StatusCode.UNAUTHENTICATED, "unauthorized")


@pytest.mark.parametrize("method", ["Classify", "ClassifyStream", "ListModels"])
def test_calls_need_a_key(channel: grpc.Channel, method: str) -> None:
    stub = classifier_pb2_grpc.ClassifierStub(channel)
    asked = messages.ClassifyRequest(images=[PICTURE])

    def call(key: str | None) -> object:
        shown = None if key is None else metadata(key)
        if method == "ListModels":
            return stub.ListModels(messages.ListModelsRequest(), metadata=shown)
        if method == "Classify":
            return stub.Classify(asked, metadata=shown)
        return list(stub.ClassifyStream(iter([asked] * 100), metadata=shown))

    for key in (None, WRONG, API[:-1], ""):
        with pytest.raises(grpc.RpcError) as raised:
            call(key)
        assert failure(raised.value) == UNKNOWN
    for key in (API, FILED, ADMIN):
        assert call(key)


@pytest.mark.parametrize("method", RPCS)
def test_repository_calls_need_an_administrators_key(channel: grpc.Channel, method: str) -> None:
    call = unary(channel, f"/inference.GRPCInferenceService/{method}")
    for key, expected in [
        (WRONG, UNKNOWN),
        (API, (grpc.StatusCode.PERMISSION_DENIED, "forbidden")),
    ]:
        with pytest.raises(grpc.RpcError) as raised:
            call(b"", metadata=tuple(metadata(key)))
        assert failure(raised.value) == expected


@pytest.mark.parametrize("method", ["ServerLive", "ServerReady", "ModelInfer"])
def test_probes_of_the_inference_protocol_are_open(channel: grpc.Channel, method: str) -> None:
    call = unary(channel, f"/inference.GRPCInferenceService/{method}")
    refused = False
    try:
        call(b"")
    except grpc.RpcError as error:
        refused = error.code() is grpc.StatusCode.UNAUTHENTICATED
    assert refused == (method == "ModelInfer")


def test_health_is_open_and_reflection_is_not(channel: grpc.Channel) -> None:
    answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
    reflect = streaming(channel, "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")
    with pytest.raises(grpc.RpcError) as raised:
        list(reflect(iter([b""])))
    assert failure(raised.value) == UNKNOWN


def test_refusals_are_logged_and_counted_without_keys(server: Server) -> None:
    sample = 'zoo_access_refusals_total{code="unauthorized",transport="http"}'
    server.client.headers.update(bearer(API))
    try:
        before = server.metric(sample)
        given = {**bearer(WRONG), "X-Request-ID": "wrong-1"}
        assert status(server, "/models", given) == 401
        assert server.metric(sample) == before + 1
    finally:
        del server.client.headers["Authorization"]
    line = json.loads(server.logged("wrong-1"))
    assert (line["status"], line["code"]) == (401, "unauthorized")
    assert not any(key in server.log for key in KEYS)


def listed(channel: grpc.Channel, key: str) -> bool:
    stub = classifier_pb2_grpc.ClassifierStub(channel)
    call = stub.ListModels.future(messages.ListModelsRequest(), metadata=metadata(key))
    return call.code() is grpc.StatusCode.OK


def test_a_file_of_keys_is_followed(server: Server, folder: Path, channel: grpc.Channel) -> None:
    rotated = "a-new-key-of-the-team-01"

    def refused_change(reason: str) -> bool:
        assert status(server, "/models", bearer(rotated)) == 200
        return f"ZOO_API_KEYS_FILE: the keys from before stay: {reason}" in server.log

    (folder / "api").write_text(f"{FILED}\n{rotated}\n")
    server.wait_for(lambda: status(server, "/models", bearer(rotated)) == 200)
    assert status(server, "/models", bearer(FILED)) == 200
    assert listed(channel, FILED)
    (folder / "api").write_text(f"{rotated}\n")
    server.wait_for(lambda: status(server, "/models", bearer(FILED)) == 401)
    server.wait_for(lambda: not listed(channel, FILED))
    assert listed(channel, rotated)
    assert "ZOO_API_KEYS_FILE: it changed, and holds 1 keys now" in server.log
    (folder / "api").write_text("tooshort\n")
    server.wait_for(lambda: refused_change("key 1 is none"))
    (folder / "api").unlink()
    server.wait_for(lambda: refused_change("it cannot be read"))
    assert status(server, "/models", bearer(API)) == 200
    assert "tooshort" not in server.log
    assert rotated not in server.log
