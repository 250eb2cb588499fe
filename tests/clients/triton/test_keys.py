"""Keys and TLS, as the table of docs/clients.md says it: each client with a key and without."""

from __future__ import annotations

import subprocess
from typing import Any

import grpc
import numpy as np
import pytest
import requests
import tritonclient.grpc
import tritonclient.http
from tritonclient.utils import InferenceServerException

from service.transports.grpc.protos import classifier_pb2 as messages
from service.transports.grpc.protos import classifier_pb2_grpc
from tests.capabilities import program
from tests.clients.conftest import Guarded

LITE = "efficientnet_lite0"
BEST = f"{LITE}.topk"


@pytest.mark.needs("curl")
def test_curl_and_requests(guarded: Guarded, pictures: dict[str, bytes]) -> None:
    address = f"{guarded.server.url}/classify"
    header = {"Authorization": f"Bearer {guarded.key}"}
    asked: dict[str, Any] = {"data": pictures["coffee"], "verify": str(guarded.ca), "timeout": 60}
    assert requests.post(address, headers=header, **asked).status_code == 200
    assert requests.post(address, **asked).status_code == 401
    with pytest.raises(requests.exceptions.SSLError):
        requests.post(address, headers=header, data=b"", timeout=60)

    curl = ["curl", "-s", "--cacert", str(guarded.ca), "--data-binary", "@-", address]
    shown = [*curl, "-H", f"Authorization: Bearer {guarded.key}"]
    for command, text in ((curl, b"unauthorized"), (shown, b"espresso")):
        assert text in subprocess.run(command, input=pictures["coffee"], capture_output=True).stdout


@pytest.mark.parametrize("transport", ["http", "grpc"])
def test_tritonclient(guarded: Guarded, pictures: dict[str, bytes], transport: str) -> None:
    module = getattr(tritonclient, transport)
    if transport == "http":
        client = module.InferenceServerClient(
            guarded.address, ssl=True, ssl_options={"ca_certs": str(guarded.ca)}
        )
    else:
        client = module.InferenceServerClient(
            guarded.server.grpc_address, ssl=True, root_certificates=str(guarded.ca)
        )
    image = module.InferInput("image", [1], "BYTES")
    image.set_data_from_numpy(np.array([pictures["coffee"]], dtype=object))
    header = {"authorization": f"Bearer {guarded.key}"}
    with client:
        assert client.is_server_live()
        answer = client.infer(BEST, [image], headers=header)
        assert answer.as_numpy("labels")[0, 0] == b"espresso"
        for wrong in (None, {"authorization": "Bearer of-bad-news"}):
            with pytest.raises(InferenceServerException) as refused:
                client.infer(BEST, [image], headers=wrong)
            assert refused.value.status() in ("401", "StatusCode.UNAUTHENTICATED")


def test_our_stubs(guarded: Guarded, pictures: dict[str, bytes]) -> None:
    credentials = grpc.ssl_channel_credentials(guarded.ca.read_bytes())
    request = messages.ClassifyRequest(images=[pictures["coffee"]], top_k=1)
    with grpc.secure_channel(guarded.server.grpc_address, credentials) as channel:
        stub = classifier_pb2_grpc.ClassifierStub(channel)
        metadata = [("authorization", f"Bearer {guarded.key}")]
        (result,) = stub.Classify(request, metadata=metadata).results
        assert result.classification.predictions[0].label == "espresso"
        with pytest.raises(grpc.RpcError) as refused:
            stub.Classify(request)
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.needs("grpcurl")
def test_grpcurl(guarded: Guarded) -> None:
    command = [program("grpcurl"), "-cacert", str(guarded.ca)]
    shown = [*command, "-H", f"authorization: Bearer {guarded.key}"]
    call = [guarded.server.grpc_address, "zoo.v1.Classifier/ListModels"]
    assert LITE in subprocess.run([*shown, *call], capture_output=True, text=True).stdout
    refused = subprocess.run([*command, *call], capture_output=True, text=True)
    assert refused.returncode
    assert "key" in refused.stderr
