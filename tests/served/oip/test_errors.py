"""Whatever a client of the Open Inference Protocol sends, it is told clearly what is wrong."""

from __future__ import annotations

import gzip
import json
import struct
from typing import Any

import httpx
import pytest

from tests.harness.oip_client import (
    HEADER,
    base64_input,
    outputs_of,
    post,
    post_binary,
    prefixed,
)
from tests.photographs import COFFEE
from tests.server import Server

PICTURE = COFFEE.read_bytes()
LITE0 = "efficientnet_lite0"
BEST = f"{LITE0}.topk"
IMAGE = base64_input(PICTURE)
SMALL = {"name": "pixels", "datatype": "UINT8", "shape": [1, 32, 32, 1], "data": [0] * 1024}
DEEP: Any = "x"
for _ in range(200):
    DEEP = [DEEP]


def check(reply: httpx.Response, status: int, code: str) -> str:
    assert (reply.status_code, reply.json().get("code")) == (status, code), reply.text
    problem = reply.json()
    assert problem["error"] == problem["detail"]
    assert reply.headers["content-type"] == "application/problem+json"
    return str(problem["detail"])


BODIES: dict[str, tuple[str, Any, str]] = {
    "no object": (LITE0, [], "JSON object"),
    "no inputs": (LITE0, {}, "takes one input, 'image', not none"),
    "no list": (LITE0, {"inputs": {}}, "inputs must be a list"),
    "other member": (LITE0, {"inputs": [IMAGE], "output": []}, "no member 'output'"),
    "id is a number": (LITE0, {"id": 42, "inputs": [IMAGE]}, "id must be a text"),
    "long id": (LITE0, {"id": "x" * 257, "inputs": [IMAGE]}, "256 bytes"),
    "half a character": (LITE0, {"id": "\ud800", "inputs": [IMAGE]}, "UTF-8"),
    "two inputs": (LITE0, {"inputs": [IMAGE, IMAGE]}, "one input"),
    "other input": (LITE0, {"inputs": [{**IMAGE, "name": "pixels"}]}, "not 'pixels'"),
    "many inputs": (LITE0, {"inputs": [IMAGE] * 17}, "more than 16 inputs"),
    "no name": (LITE0, {"inputs": [{**IMAGE, "name": None}]}, "'name' is missing"),
    "datatype": ("lenet5.tensor", {"inputs": [{**SMALL, "datatype": "INT64"}]}, "'INT64'"),
    "crops to pictures": (LITE0, {"inputs": [{**SMALL, "name": "image"}]}, "is BYTES, not 'UINT8'"),
    "no datatype": (LITE0, {"inputs": [{**IMAGE, "datatype": 8}]}, "datatype must be a text"),
    "no base64": (LITE0, {"inputs": [{**IMAGE, "data": ["!"]}]}, "'image' are no BYTES"),
    "not text": (LITE0, {"inputs": [{**IMAGE, "data": [17]}]}, "'image' are no BYTES"),
    "no data": (LITE0, {"inputs": [{**IMAGE, "data": None}]}, "'data' is missing"),
    "scalar data": (LITE0, {"inputs": [{**IMAGE, "data": "x"}]}, "data must be a list"),
    "shape too large": (LITE0, {"inputs": [{**IMAGE, "shape": [2]}]}, "has 1 elements"),
    "no pictures": (LITE0, {"inputs": [{**IMAGE, "shape": [0], "data": []}]}, "from 1 on"),
    "other rank": (LITE0, {"inputs": [{**IMAGE, "shape": [1, 1, 1]}]}, "has the shape [-1, 1]"),
    "a row": (
        LITE0,
        {"inputs": [{**IMAGE, "shape": [1, 2], "data": IMAGE["data"] * 2}]},
        "has the shape [-1, 1]",
    ),
    "scalar": (LITE0, {"inputs": [{**IMAGE, "shape": []}]}, "has the shape [-1, 1]"),
    "negative": (LITE0, {"inputs": [{**IMAGE, "shape": [-1]}]}, "whole number"),
    "2^63": (LITE0, {"inputs": [{**IMAGE, "shape": [2**63]}]}, "whole number"),
    "2^62 each": ("lenet5.tensor", {"inputs": [{**SMALL, "shape": [2**62] * 4}]}, "elements"),
    "text size": (LITE0, {"inputs": [{**IMAGE, "shape": ["1"]}]}, "whole number"),
    "true size": (LITE0, {"inputs": [{**IMAGE, "shape": [True]}]}, "whole number"),
    "dimensions": (LITE0, {"inputs": [{**IMAGE, "shape": [1] * 9}]}, "8 dimensions"),
    "other crop": ("lenet5.tensor", {"inputs": [{**SMALL, "shape": [1, 1024, 1, 1]}]}, "32, 32, 1"),
    "beyond a byte": ("lenet5.tensor", {"inputs": [{**SMALL, "data": [256] * 1024}]}, "no UINT8"),
    "below a byte": ("lenet5.tensor", {"inputs": [{**SMALL, "data": [-1] * 1024}]}, "no UINT8"),
    "fractions": ("lenet5.tensor", {"inputs": [{**SMALL, "data": [0.5] * 1024}]}, "no UINT8"),
    "texts": ("lenet5.tensor", {"inputs": [{**SMALL, "data": ["0"] * 1024}]}, "no UINT8"),
    "nested": ("lenet5.tensor", {"inputs": [{**SMALL, "data": [[0] * 1024]}]}, "not nested"),
    "deep": ("lenet5.tensor", {"inputs": [{**SMALL, "data": DEEP}]}, "pixels"),
    "no output": (
        LITE0,
        {"inputs": [IMAGE], "outputs": [{"name": "features"}]},
        "no output 'features'",
    ),
    "of another face": (
        LITE0,
        {"inputs": [IMAGE], "outputs": [{"name": "labels"}]},
        f"{BEST} gives the best classes",
    ),
    "of several crops": (
        LITE0,
        {
            "parameters": {"protocol": "ten_crop"},
            "inputs": [IMAGE],
            "outputs": [{"name": "logits"}],
        },
        "logits are of one crop",
    ),
    "twice": (BEST, {"inputs": [IMAGE], "outputs": [{"name": "labels"}] * 2}, "requested twice"),
    "another name": ("lenet5.tensor", {"model_name": "lenet5", "inputs": [SMALL]}, "model_name is"),
    "another version": (
        "lenet5.tensor/versions/1",
        {"model_version": "2", "inputs": [SMALL]},
        "model_version is '2', the path names '1'",
    ),
    "a name of no text": ("lenet5", {"model_name": 1, "inputs": [IMAGE]}, "must be a text"),
    "a boolean": (
        "lenet5.tensor",
        {"inputs": [{**SMALL, "data": [*[0] * 1023, True]}]},
        "a boolean is no number",
    ),
    "nested booleans": (
        "lenet5.tensor",
        {"inputs": [{**SMALL, "shape": [2, 32, 32, 1], "data": [[0] * 1024, [False] * 1024]}]},
        "",
    ),
    "both data": (
        LITE0,
        {"inputs": [{**IMAGE, "parameters": {"binary_data_size": 4}}]},
        "both data and binary_data_size",
    ),
    "shared memory": (
        LITE0,
        {"inputs": [{**IMAGE, "parameters": {"shared_memory_region": "x"}}]},
        "shared memory is not offered",
    ),
}


@pytest.mark.parametrize("kind", BODIES)
def test_bad_bodies(server: Server, kind: str) -> None:
    model, body, words = BODIES[kind]
    text = json.dumps(body)  # httpx would refuse to send half a character
    reply = server.client.post(f"/v2/models/{model}/infer", content=text)
    assert words in check(reply, 400, "bad_parameter")


PARAMETERS = {
    "unknown": ({"colour": "red"}, "no parameter 'colour'"),
    "protocol": ({"protocol": "dense"}, "center, ten_crop"),
    "no text": ({"protocol": 1}, "protocol must be a text"),
    "long": ({"protocol": "x" * 65}, "1 to 64"),
    "top_k": ({"top_k": 1001}, "allows 1 to 1000"),
    "zero": ({"top_k": 0}, "top_k must be"),
    "text": ({"top_k": "5"}, "top_k must be"),
    "true": ({"top_k": True}, "top_k must be"),
    "fraction": ({"top_k": 5.0}, "top_k must be"),
    "exif": ({"exif": "maybe"}, "'apply' or 'ignore'"),
    "timeout": ({"timeout": -1}, "timeout must be"),
    "infinite": ({"timeout": 1e300}, "timeout must be"),
    "nested": ({"top_k": [5]}, "a number, a text or a boolean"),
    "binary": ({"binary_data_output": 1}, "must be a boolean"),
    "hint": ({"priority": 0.5}, "priority is"),
}


@pytest.mark.parametrize("kind", PARAMETERS)
def test_bad_parameters(server: Server, kind: str) -> None:
    parameters, words = PARAMETERS[kind]
    reply = post(server, BEST, {"parameters": parameters, "inputs": [IMAGE]})
    assert words in check(reply, 400, "bad_parameter")


@pytest.mark.parametrize("parameters", [{"top_k": 3}, {"top_k": None}])
def test_only_the_best_have_a_top_k(server: Server, parameters: dict[str, Any]) -> None:
    for model, given in ((LITE0, IMAGE), ("lenet5.tensor", SMALL)):
        reply = post(server, model, {"parameters": parameters, "inputs": [given]})
        if parameters["top_k"] is None:  # as if absent
            assert list(outputs_of(reply)) == ["probabilities"]
        else:
            assert "NAME.topk" in check(reply, 400, "bad_parameter")


@pytest.mark.parametrize(
    ("output", "classes", "words"),
    [
        ("scores", -1, "classification must be"),
        ("scores", "5", "classification must be"),
        ("labels", 5, "goes with scores"),  # Triton: not available for type 'BYTES'
        ("indices", 5, "goes with scores"),
    ],
)
def test_bad_classifications(server: Server, output: str, classes: object, words: str) -> None:
    wanted = [{"name": output, "parameters": {"classification": classes}}]
    reply = post(server, BEST, {"inputs": [IMAGE], "outputs": wanted})
    assert words in check(reply, 400, "bad_parameter")


def test_hints_change_nothing(server: Server) -> None:
    hints = {"priority": 3, "sequence_id": "a", "sequence_start": True, "sequence_end": False}
    assert outputs_of(post(server, LITE0, {"parameters": hints, "inputs": [IMAGE]}))


def binary(size: object, shape: object = (1,)) -> bytes:
    given = {"name": "image", "datatype": "BYTES", "shape": shape}
    return json.dumps({"inputs": [{**given, "parameters": {"binary_data_size": size}}]}).encode()


DATA = prefixed(PICTURE)
WHOLE = binary(len(DATA))
HEADERS: dict[str, tuple[bytes, Any]] = {
    "negative": (WHOLE + DATA, -1),
    "huge": (WHOLE + DATA, 10**30),
    "beyond": (WHOLE + DATA, len(WHOLE + DATA) + 1),
    "no number": (WHOLE + DATA, "many"),
    "empty": (WHOLE + DATA, ""),
    "fraction": (WHOLE + DATA, "1.5"),
    "short": (WHOLE + DATA, len(WHOLE) - 1),
    "long": (WHOLE + DATA, len(WHOLE) + 1),
    "absent": (WHOLE + DATA, None),
    "too much": (WHOLE + DATA + b"x", len(WHOLE)),
    "too little": (WHOLE + DATA[:-1], len(WHOLE)),
    "size too small": (binary(len(DATA) - 1) + DATA, len(binary(len(DATA) - 1))),
    "negative size": (binary(-1) + DATA, len(binary(-1))),
    "text size": (binary("9") + DATA, len(binary("9"))),
    "huge size": (binary(2**63) + DATA, len(binary(2**63))),
    "prefix lies": (binary(12) + struct.pack("<I", 2**32 - 1) + bytes(8), len(binary(12))),
    "prefix cut off": (binary(3) + bytes(3), len(binary(3))),
    "more elements": (binary(8) + bytes(8), len(binary(8))),
    "fewer elements": (binary(4, (2,)) + bytes(4), len(binary(4, (2,)))),
    "empty body": (b"", None),
    "no JSON": (b"\xff\xfe", None),
    "not a number": (b'{"id": NaN}', None),
    "infinity": (b'{"parameters": {"top_k": -Infinity}}', None),
    "deep": (b"[" * 1_000_000, None),
    "many values": (b'{"inputs": [' + b"1," * 2_000_000 + b"1]}", None),
}


@pytest.mark.parametrize("kind", HEADERS)
def test_bad_binary_bodies(server: Server, kind: str) -> None:
    body, length = HEADERS[kind]
    headers = {} if length is None else {HEADER: str(length)}
    reply = server.client.post(f"/v2/models/{LITE0}/infer", content=body, headers=headers)
    check(reply, 400, "bad_parameter")


def test_other_errors_keep_their_codes(server: Server) -> None:
    broken = {"inputs": [base64_input(PICTURE, PICTURE[:9999], b"text")]}
    detail = check(post(server, LITE0, broken), 422, "undecodable_picture")
    assert detail.startswith("picture 1: ")
    check(post(server, LITE0, {"inputs": [base64_input(b"text")]}), 415, "unsupported_format")
    check(post(server, LITE0, {"inputs": [base64_input(b"")]}), 422, "undecodable_picture")
    many = {"inputs": [base64_input(*[b"GIF89a"] * 33)]}
    check(post(server, LITE0, many), 413, "body_too_large")
    for name in ("nothing", "nothing.tensor", f"{LITE0}.tensor.tensor", "x" * 129, ".tensor"):
        check(post(server, name, {"inputs": [IMAGE]}), 404, "unknown_model")
    check(post(server, f"{LITE0}/versions/2", {"inputs": [IMAGE]}), 404, "unknown_model")
    late = {"parameters": {"timeout": 1, "protocol": "ten_crop"}, "inputs": [IMAGE]}
    assert post(server, LITE0, late).status_code in (429, 504)
    body = server.client.post(f"/v2/models/{LITE0}/infer", content=bytes(40_000_000))
    check(body, 413, "body_too_large")
    assert server.client.get("/v2/health/ready").status_code == 200


@pytest.mark.parametrize("path", ["", "/config", "/stats", "/ready", "/versions/9/stats"])
def test_models_that_are_not_there(server: Server, path: str) -> None:
    model = LITE0 if "versions" in path else "nothing"
    check(server.client.get(f"/v2/models/{model}{path}"), 404, "unknown_model")


def test_routes_that_are_not_there(server: Server) -> None:
    check(server.client.get("/v2/trace/setting"), 404, "not_found")
    check(server.client.get(f"/v2/models/{LITE0}/infer"), 405, "method_not_allowed")


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_bodies_that_unpack_to_too_much_or_not_at_all(server: Server, encoding: str) -> None:
    headers = {HEADER: "0", "Content-Encoding": encoding}

    def send(body: bytes) -> httpx.Response:
        return server.client.post(f"/v2/models/{LITE0}/infer", content=body, headers=headers)

    bombs = {"gzip": gzip.compress(bytes(300_000_000), 1)}
    if encoding in bombs:
        before = server.memory()
        check(send(bombs[encoding]), 413, "body_too_large")
        assert server.memory() - before < 100e6
        check(send(gzip.compress(PICTURE)[:-20]), 400, "bad_parameter")
        check(send(gzip.compress(PICTURE) + b"more"), 400, "bad_parameter")
    check(send(PICTURE), 400, "bad_parameter")
    check(send(b""), 400, "bad_parameter")
    headers["Content-Encoding"] = "br"
    check(send(PICTURE), 415, "unsupported_encoding")
    assert server.metric("zoo_body_bytes") == 0


def test_the_repository_is_closed(server: Server) -> None:
    body: dict[str, Any]
    for action in ("load", "unload"):
        path = f"/v2/repository/models/{LITE0}/{action}"
        check(server.client.post(path), 403, "management_closed")
        body = {"parameters": {"config": "{}"}}
        check(server.client.post(path, json=body), 400, "bad_parameter")
        check(server.client.post(path, content=b"["), 400, "bad_parameter")
    unload = f"/v2/repository/models/{LITE0}.tensor/unload"
    body = {"parameters": {"unload_dependents": False}}
    check(server.client.post(unload, json=body), 403, "management_closed")
    check(server.client.post("/v2/repository/index", json={"ready": 1}), 400, "bad_parameter")
    check(server.client.post("/v2/repository/index", content=bytes(70_000)), 413, "body_too_large")
    assert server.client.get(f"/v2/models/{LITE0}/ready").status_code == 200


def test_a_shape_of_nothing_times_much_is_refused(server: Server) -> None:
    inputs = {"name": "pixels", "datatype": "UINT8", "shape": [0, 2**62, 4]}
    body = {"inputs": [{**inputs, "parameters": {"binary_data_size": 0}}]}
    check(post_binary(server, "lenet5.tensor", body, b""), 400, "bad_parameter")


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "http://127.0.0.1:1", "Sec-Fetch-Site": "same-site"},
    ],
)
def test_pages_of_other_sites_manage_nothing(server: Server, headers: dict[str, str]) -> None:
    headers = {"Content-Type": "text/plain", **headers}
    for path in ("index", "models/lenet5/load", "models/lenet5/unload"):
        reply = server.client.post(f"/v2/repository/{path}", headers=headers)
        check(reply, 403, "forbidden")
    reply = server.client.post("/v2/repository/index", headers={"Origin": server.url})
    check(reply, 403, "management_closed")
