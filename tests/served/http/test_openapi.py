"""The OpenAPI document is true: what it describes is accepted, what comes back is as it says."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import httpx
import jsonschema
import pytest

from service.errors import ALL, ManagementClosed, MethodNotAllowed
from service.transports.http.oip_body import HEADER_LENGTH
from service.transports.http.parameters import TIMEOUT_HEADER
from tests.harness.oip_client import base64_input, post
from tests.harness.openapi import follow, operations, validate
from tests.paths import ROOT
from tests.photographs import COFFEE
from tests.server import Server


@pytest.fixture(scope="module")
def document(server: Server) -> dict:
    reply = server.client.get("/openapi.json")
    assert reply.status_code == 200
    return reply.json()


def check(document: dict, path: str, method: str, reply: httpx.Response) -> None:
    operation = document["paths"][path][method]
    described = operation["responses"][str(reply.status_code)]
    media_type = reply.headers["content-type"].split(";")[0]
    assert media_type in described["content"], (path, reply.status_code, media_type)
    for name, header in described.get("headers", {}).items():
        header = follow(document, header)
        assert name in reply.headers or not header.get("required")
    schema = described["content"][media_type]["schema"]
    if media_type.endswith("json"):
        validate(document, reply.json(), schema)


def test_every_get_route(server: Server, document: dict) -> None:
    for path, item in document["paths"].items():
        if "get" in item:
            reply = server.client.get(path.replace("{name}", "lenet5").replace("{version}", "1"))
            assert reply.status_code == 200
            check(document, path, "get", reply)
    check(document, "/models/{name}", "get", server.client.get("/models/nobody"))


def test_every_post_of_the_inference_protocol(server: Server, document: dict) -> None:
    described = {path for path in document["paths"] if path.startswith("/v2")}
    inputs = [base64_input(COFFEE.read_bytes())]
    outputs = [{"name": "labels"}]
    request = {"id": "x", "parameters": {"top_k": 2}, "inputs": inputs, "outputs": outputs}
    for body in (request, {"inputs": inputs}):
        validate(document, body, document["components"]["schemas"]["OipRequest"])
        for path in ("/v2/models/{name}/infer", "/v2/models/{name}/versions/{version}/infer"):
            face = "lenet5.topk" if "outputs" in body else "lenet5"
            reply = post(server, face + ("/versions/1" if "version" in path else ""), body)
            assert reply.status_code == 200
            check(document, path, "post", reply)
    path = "/v2/models/{name}/infer"
    for body in ({"inputs": [base64_input(b"text")]}, {"parameters": {"x": 1}, "inputs": inputs}):
        check(document, path, "post", post(server, "lenet5", body))
    check(document, path, "post", post(server, "nobody", request))
    binary = {"parameters": {"binary_data_output": True}, "inputs": inputs}
    check(document, path, "post", post(server, "lenet5", binary))
    for path in described:
        if "repository" in path:
            reply = server.client.post(path.replace("{name}", "lenet5"))
            check(document, path, "post", reply)
    check(document, "/v2/models/{name}", "get", server.client.get("/v2/models/nobody"))


def test_every_body_of_classify(server: Server, document: dict) -> None:
    described = document["paths"]["/classify"]["post"]["requestBody"]["content"]
    data = COFFEE.read_bytes()
    # a type with an asterisk is dropped by generators of clients, with a warning
    assert set(described) == {"application/octet-stream", "multipart/form-data"}
    for media_type in ("image/png", "application/octet-stream"):
        headers = {"Content-Type": media_type}
        reply = server.client.post("/classify", content=data, headers=headers)
        assert reply.status_code == 200
        check(document, "/classify", "post", reply)
    form = follow(document, described["multipart/form-data"]["schema"])
    for count in (1, 2, form["properties"]["image"]["maxItems"]):
        reply = server.client.post("/classify", files=[("image", data)] * count)
        assert reply.status_code == 200
        check(document, "/classify", "post", reply)
    mixed = server.client.post("/classify", files=[("image", data), ("image", b"x")])
    check(document, "/classify", "post", mixed)


def test_every_parameter_of_classify(server: Server, document: dict) -> None:
    values: dict[str, list] = {
        "model": ["lenet5", "efficientnet_lite0"],
        "version": ["1"],
        "protocol": ["center"],
        "top_k": [1, 5, 10],
        "exif": ["apply", "ignore"],
        "X-Request-Timeout-Ms": [30000],
    }
    parameters = document["paths"]["/classify"]["post"]["parameters"]
    assert {parameter["name"] for parameter in parameters} == set(values)
    for parameter in parameters:
        name = parameter["name"]
        for value in values[name]:
            jsonschema.validate(value, parameter["schema"])
            place = "params" if parameter["in"] == "query" else "headers"
            given: dict[str, Any] = {place: {name: str(value)}}
            reply = server.client.post("/classify", content=COFFEE.read_bytes(), **given)
            assert reply.status_code == 200, reply.text
            check(document, "/classify", "post", reply)


def test_errors(server: Server, document: dict) -> None:
    post = server.client.post
    replies = [
        post("/classify?top_k=0", content=b"x"),
        post("/classify?model=x", content=b"x"),
        post("/classify", content=bytes(40_000_000)),
        post("/classify", content=b"x"),
        post("/classify", content=b"GIF89a"),
        post("/classify", content=COFFEE.read_bytes(), headers={"X-Request-Timeout-Ms": "1"}),
    ]
    assert [reply.status_code for reply in replies] == [400, 404, 413, 415, 422, 504]
    for reply in replies:
        check(document, "/classify", "post", reply)


def test_whatever_has_a_deadline_may_miss_it_and_nothing_else(
    server: Server, document: dict
) -> None:
    def unfinished() -> Iterator[bytes]:
        yield b"{"
        time.sleep(0.1)  # a hundred times what it has

    missed = 0
    for path, item in document["paths"].items():
        for method, operation in item.items():
            names = {part["name"] for part in operation.get("parameters", ())}
            assert ("504" in operation["responses"]) == (TIMEOUT_HEADER in names), path
            assert ("429" in operation["responses"]) == ("requestBody" in operation), path
            if TIMEOUT_HEADER in names:
                missed += 1
                route = path.replace("{name}", "lenet5").replace("{version}", "1")
                late: dict[str, Any] = {"content": unfinished(), "headers": {TIMEOUT_HEADER: "1"}}
                reply = server.client.request(method, route, **late)
                assert reply.status_code == 504, path
                check(document, path, method, reply)
    assert missed == 6


def test_a_body_with_binary_data_has_its_header(document: dict) -> None:
    found = 0
    for operation in operations(document):
        content = operation.get("requestBody", {}).get("content", {})
        if {"application/octet-stream", "application/json"} <= set(content):
            found += 1
            parameters = {part["name"]: part for part in operation["parameters"]}
            assert parameters[HEADER_LENGTH]["in"] == "header"
            assert HEADER_LENGTH in operation["responses"]["200"]["headers"]
    assert found == 2


def test_the_example_of_an_inference_is_answered(server: Server, document: dict) -> None:
    example = document["components"]["schemas"]["OipRequest"]["example"]
    for name in ("lenet5", "lenet5.topk"):
        reply = post(server, name, example)
        assert reply.status_code == 200, reply.text
        check(document, "/v2/models/{name}/infer", "post", reply)


@pytest.mark.parametrize("path", ["/livez", "/v2", "/classify", "/v2/models/lenet5/infer"])
def test_a_head_that_is_refused(server: Server, document: dict, path: str) -> None:
    route = path.replace("lenet5", "{name}")
    method = "post" if "post" in document["paths"][route] else "get"
    reply = server.client.request(method, path, headers=dict.fromkeys(map(str, range(300)), "x"))
    assert reply.status_code == 400
    check(document, route, method, reply)


def test_every_code_is_described(document: dict) -> None:
    codes = document["components"]["schemas"]["ErrorCode"]["enum"]
    assert codes == [error.code for error in ALL]
    assert len(set(codes)) == len(codes)
    # 401 only where keys are set (test_keys.py), 403 only of what manages the models
    elsewhere = {ManagementClosed, MethodNotAllowed}
    statuses = {str(error.http_status) for error in ALL if error not in elsewhere} - {"401", "403"}
    assert statuses | {"200"} == set(document["paths"]["/classify"]["post"]["responses"])


def test_the_written_api_has_every_code_and_route(document: dict) -> None:
    text = (ROOT / "docs" / "api.md").read_text() + (ROOT / "docs" / "oip.md").read_text()
    for error in ALL:
        if error.http_status != 500:  # never by what a client sends
            assert f"| {error.http_status} | {error.grpc_status} | `{error.code}` |" in text
    for path, item in document["paths"].items():
        for method in item:
            either = path.replace("/versions/{version}", "").replace(
                "/v2/models/{name}", "/v2/models/{name}[/versions/{version}]"
            )
            assert f"{method.upper()} {either}" in text
