"""Limits of the Open Inference Protocol: just below, at and just above; full queues; who leaves."""

from __future__ import annotations

import gzip
import io
import math
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import grpc
import httpx
import pytest
from PIL import Image

from service.transports.grpc.protos import oip_pb2_grpc
from tests.harness.oip_client import (
    HEADER,
    base64_input,
    message,
    outputs_of,
    post,
    post_binary,
    prefixed,
)
from tests.photographs import COFFEE
from tests.server import Server, serving

PICTURE = COFFEE.read_bytes()
LITE0 = "efficientnet_lite0"
TENSOR = f"{LITE0}.tensor"
CROP = 32 * 32
LIMIT = 1000 * CROP


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(
        tmp_path_factory.mktemp("limits"),
        zoo_max_body_bytes=LIMIT,
        zoo_max_bodies_bytes=4 * LIMIT,
        zoo_queue_crops=16,
        zoo_max_pictures=2,
    ) as running:
        yield running


def crops(server: Server, body: bytes, **headers: str) -> httpx.Response:
    return server.client.post(
        "/v2/models/lenet5.tensor/infer", content=body, headers={HEADER: "0", **headers}
    )


@pytest.mark.parametrize("packed", [False, True])
def test_a_body_at_the_limit(server: Server, packed: bool) -> None:
    def send(size: int) -> httpx.Response:
        if not packed:
            return crops(server, bytes(size))
        return crops(server, gzip.compress(bytes(size)), **{"Content-Encoding": "gzip"})

    assert outputs_of(send(LIMIT - CROP))["probabilities"].shape == (999, 10)
    assert outputs_of(send(LIMIT))["probabilities"].shape == (1000, 10)
    reply = send(LIMIT + 1)
    assert (reply.status_code, reply.json()["code"]) == (413, "body_too_large")
    assert send(LIMIT - 1).json()["code"] == "bad_parameter"
    assert send(0).json()["code"] == "bad_parameter"


def test_as_many_pictures_as_allowed(server: Server) -> None:
    assert post(server, LITE0, {"inputs": [base64_input(PICTURE)]}).status_code == 200
    size = prefixed(b"GIF89a")
    for count, status, code in ((2, 422, "undecodable_picture"), (3, 413, "body_too_large")):
        parameters = {"binary_data_size": count * len(size)}
        given = {"name": "image", "datatype": "BYTES", "shape": [count], "parameters": parameters}
        reply = post_binary(server, LITE0, {"inputs": [given]}, size * count)
        assert (reply.status_code, reply.json()["code"]) == (status, code)


@pytest.mark.parametrize(
    ("model", "most"), [(LITE0, 2), (f"{LITE0}.topk", 2), ("lenet5.tensor", 16), (TENSOR, 6)]
)
def test_the_configuration_says_how_many_fit(server: Server, model: str, most: int) -> None:
    """In one request, which is answered; 16 crops are the whole queue, 6 what a body holds."""
    config = server.client.get(f"/v2/models/{model}/config").json()
    assert config["max_batch_size"] == most
    (given,) = config["input"]
    shape = [most, *given["dims"]]
    if given["data_type"] == "TYPE_UINT8":
        tensor, data = "UINT8", bytes(math.prod(shape))
    else:
        with Image.open(COFFEE) as picture:
            small = io.BytesIO()
            picture.resize((64, 64)).save(small, "JPEG")
        tensor, data = "BYTES", prefixed(*[small.getvalue()] * most)
    parameters = {"binary_data_size": len(data)}
    pixels = {"name": given["name"], "datatype": tensor, "shape": shape, "parameters": parameters}
    found = outputs_of(post_binary(server, model, {"inputs": [pixels]}, data))
    assert next(iter(found.values())).shape[0] == most


def test_a_full_queue_is_told_to_come_back(server: Server) -> None:
    body = {"parameters": {"protocol": "ten_crop"}, "inputs": [base64_input(PICTURE)]}
    with ThreadPoolExecutor(8) as threads:
        replies = list(threads.map(lambda _: post(server, LITE0, body), range(16)))
    assert {reply.status_code for reply in replies} == {200, 429}
    refused = next(reply for reply in replies if reply.status_code == 429)
    assert int(refused.headers["Retry-After"]) >= 1
    assert refused.json()["code"] == "overloaded"
    assert refused.json()["error"] == refused.json()["detail"]

    def call(_: int) -> grpc.StatusCode:
        with grpc.insecure_channel(server.grpc_address) as channel:
            stub = oip_pb2_grpc.GRPCInferenceServiceStub(channel)
            try:
                stub.ModelInfer(message(LITE0, PICTURE, protocol="ten_crop"))
            except grpc.RpcError as error:
                return error.code()
            return grpc.StatusCode.OK

    with ThreadPoolExecutor(8) as threads:
        codes = set(threads.map(call, range(16)))
    assert codes == {grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert server.metric("zoo_admitted_crops") == 0


def test_a_stream_is_slowed_down_not_refused(server: Server) -> None:
    requests = []
    for index in range(12):
        asked = message(f"{LITE0}.topk", PICTURE, protocol="ten_crop", top_k=1)
        asked.id = str(index)
        requests.append(asked)
    with grpc.insecure_channel(server.grpc_address) as channel:
        stub = oip_pb2_grpc.GRPCInferenceServiceStub(channel)
        answers = list(stub.ModelStreamInfer(iter(requests)))
    assert {answer.infer_response.id for answer in answers} == {str(i) for i in range(12)}
    assert not [answer.error_message for answer in answers if answer.error_message]


def test_the_deadline_of_the_header_and_of_the_request(server: Server) -> None:
    body = {"parameters": {"protocol": "crops_144"}, "inputs": [base64_input(PICTURE)]}
    late = post(server, LITE0, body, headers={"X-Request-Timeout-Ms": "20"})
    assert (late.status_code, late.json()["code"]) == (504, "deadline_exceeded")
    body["parameters"] = {"protocol": "crops_144", "timeout": 20_000}
    late = post(server, LITE0, body)
    assert (late.status_code, late.json()["code"]) == (504, "deadline_exceeded")
    bad = post(server, LITE0, body, headers={"X-Request-Timeout-Ms": "0"})
    assert (bad.status_code, bad.json()["code"]) == (400, "bad_parameter")


def test_a_client_that_leaves_leaves_nothing(server: Server) -> None:
    def failed() -> int:
        (entry,) = server.client.get(f"/v2/models/{LITE0}/stats").json()["model_stats"]
        return int(entry["inference_stats"]["fail"]["count"])

    before = failed()
    host, port = server.url.removeprefix("http://").split(":")
    body = prefixed(PICTURE)
    text = (
        b'{"parameters":{"protocol":"crops_144"},"inputs":[{"name":"image","datatype":"BYTES",'
        b'"shape":[1],"parameters":{"binary_data_size":%d}}]}' % len(body)
    )
    head = (
        f"POST /v2/models/{LITE0}/infer HTTP/1.1\r\nHost: x\r\nX-Request-ID: leaver\r\n"
        f"{HEADER}: {len(text)}\r\nContent-Length: {len(text) + len(body)}\r\n\r\n"
    )
    with closing(socket.create_connection((host, int(port)), timeout=20)) as leaver:
        leaver.sendall(head.encode() + text + body)
        server.wait_for(lambda: server.metric("zoo_admitted_crops") > 0)
    assert "code=cancelled" in server.logged("request_id=leaver")
    assert failed() == before + 1
    server.wait_for(lambda: server.metric("zoo_admitted_crops") == 0)
    assert server.metric("zoo_body_bytes") == 0
