"""What clients send in place of a picture is refused by its name, whatever brought it."""

from __future__ import annotations

import base64
import json
import subprocess
from pathlib import Path

import grpc
import httpx
import pytest

from service.transports.grpc.protos import classifier_pb2, classifier_pb2_grpc
from tests.harness.oip_client import HEADER
from tests.photographs import COFFEE
from tests.server import Server

PICTURE = COFFEE.read_bytes()
ENCODED = base64.b64encode(PICTURE)
PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)


def check(reply: httpx.Response, words: str) -> None:
    assert (reply.status_code, reply.json()["code"]) == (415, "unsupported_format"), reply.text
    assert words in reply.json()["detail"]


def test_whatever_brings_it(server: Server) -> None:
    post = server.client.post
    check(server.classify(ENCODED), "base64")
    check(post("/classify", files={"image": ENCODED}), "base64")
    check(post("/v2/models/lenet5/infer", content=ENCODED, headers={HEADER: "0"}), "base64")
    twice = base64.b64encode(ENCODED).decode()
    image = {"name": "image", "datatype": "BYTES", "shape": [1], "data": [twice]}
    check(post("/v2/models/lenet5/infer", json={"inputs": [image]}), "base64")
    check(post("/classify", json={"image": ENCODED.decode()}), "JSON")
    check(post("/classify", data={"image": ENCODED.decode()}), "URL-encoded")
    form = httpx.Request("POST", server.url, files={"image": PICTURE}).read()
    for kind in ("application/octet-stream", "multipart/mixed; boundary=x", "image/jpeg"):
        check(post("/classify", content=form, headers={"Content-Type": kind}), "multipart form")
    call = classifier_pb2.ClassifyRequest(images=[b"data:image/jpeg;base64," + ENCODED])
    with (
        grpc.insecure_channel(server.grpc_address) as channel,
        pytest.raises(grpc.RpcError) as refused,
    ):
        classifier_pb2_grpc.ClassifierStub(channel).Classify(call, timeout=60)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "data URL" in str(refused.value.details())


@pytest.mark.needs("curl")
def test_curl_with_the_wrong_options(server: Server, tmp_path: Path) -> None:
    picture = tmp_path / "cat.png"
    picture.write_bytes(PNG)
    for arguments, words in (
        (["-d", f"@{picture}"], "--data-binary"),
        (["-d", f"image=@{picture}"], "-F image=@FILE"),
        (["-H", "Content-Type: multipart/form-data", "-d", "x"], "boundary"),
        (["-H", "Content-Type: application/json", "-d", '{"image": "cat.png"}'], "JSON"),
    ):
        done = subprocess.run(
            ["curl", "-sS", *arguments, f"{server.url}/classify"],
            capture_output=True,
            check=True,
            timeout=60,
        )
        assert words in json.loads(done.stdout)["detail"]
