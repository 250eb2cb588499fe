"""Elements in another form: base64 text, as codecs of MLServer send it, and pixels as FP32."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest

from service.transports.grpc.protos import oip_pb2 as messages
from service.transports.grpc.protos import oip_pb2_grpc
from tests.harness.oip_client import (
    base64_input,
    crops_of,
    message,
    outputs_of,
    outputs_of_message,
    post,
    post_binary,
    prefixed,
    set_parameters,
)
from tests.photographs import COFFEE
from tests.served.oip.test_errors import SMALL, check
from tests.server import Server

PICTURE = COFFEE.read_bytes()
TEXT = base64.b64encode(PICTURE)
BEST = "efficientnet_lite0.topk"
LENET = "lenet5.tensor"
BASE64, NUMPY = {"content_type": "base64"}, {"content_type": "np"}


@pytest.fixture
def stub(server: Server) -> Iterator[oip_pb2_grpc.GRPCInferenceServiceStub]:
    with grpc.insecure_channel(server.grpc_address) as channel:
        yield oip_pb2_grpc.GRPCInferenceServiceStub(channel)


def test_mlserver_s_codecs_in_json(server: Server) -> None:
    """Base64Codec: shape [1, 1], with `content_type`; members that it has not set are null."""
    image = {**base64_input(PICTURE), "shape": [1, 1], "parameters": {**BASE64, "headers": None}}
    body: dict[str, Any] = {"id": None, "parameters": None, "inputs": [image], "outputs": None}
    assert outputs_of(post(server, BEST, body))["labels"][0, 0] == "espresso"
    for whole, own in ((NUMPY, {}), ({}, NUMPY), (NUMPY, NUMPY)):
        outputs = [{"name": "probabilities", "parameters": NUMPY}]
        body = {
            "parameters": whole,
            "inputs": [{**SMALL, "parameters": own}],
            "outputs": outputs,
        }
        assert outputs_of(post(server, LENET, body))["probabilities"].shape == (1, 10)


@pytest.mark.parametrize("of", ["request", "input"])
def test_base64_that_is_not_json_is_decoded(
    server: Server, stub: oip_pb2_grpc.GRPCInferenceServiceStub, of: str
) -> None:
    """Over gRPC as MLServer's converter puts it: text in bytes_contents, shape [1, 1]."""
    for raw in (False, True):
        asked = messages.ModelInferRequest(model_name=BEST)
        image = asked.inputs.add(name="image", datatype="BYTES", shape=[1, 1])
        image.contents.SetInParent()  # it leaves an empty message there beside raw contents
        if raw:
            asked.raw_input_contents.append(prefixed(TEXT))
        else:
            image.contents.bytes_contents.append(TEXT)
        set_parameters(asked if of == "request" else image, BASE64)
        assert outputs_of_message(stub.ModelInfer(asked))["labels"][0, 0] == "espresso"

    data = prefixed(TEXT)
    given: dict[str, Any] = {"name": "image", "datatype": "BYTES", "shape": [1]}
    given["parameters"] = {"binary_data_size": len(data)}
    body: dict[str, Any] = {"inputs": [given], "parameters": {}}
    (body if of == "request" else given)["parameters"] |= BASE64
    assert outputs_of(post_binary(server, BEST, body, data))["labels"][0, 0] == "espresso"


WRONG: dict[str, tuple[str, dict[str, Any], str]] = {
    "unknown": (BEST, {"parameters": {"content_type": "str"}}, "it can be 'base64'"),
    "number": (BEST, {"parameters": {"content_type": 1}}, "content_type must be a text"),
    "pandas": (LENET, {"parameters": {"content_type": "pd"}}, "it can be 'base64'"),
    "numbers of pictures": (BEST, {"parameters": NUMPY}, "does not go with 'BYTES'"),
    "base64 of pixels": (LENET, {"parameters": BASE64}, "does not go with 'UINT8'"),
    "base64 of labels": (
        BEST,
        {"outputs": [{"name": "labels", "parameters": BASE64}]},
        "no output is base64",
    ),
}


@pytest.mark.parametrize("kind", WRONG)
def test_content_that_is_something_else_is_refused(server: Server, kind: str) -> None:
    model, more, words = WRONG[kind]
    given = SMALL if model == LENET else base64_input(PICTURE)
    assert words in check(post(server, model, {"inputs": [given], **more}), 400, "bad_parameter")
    if "parameters" in more:
        body = {"inputs": [{**given, **more}]}
        assert words in check(post(server, model, body), 400, "bad_parameter")


def test_what_is_no_base64_is_refused(stub: oip_pb2_grpc.GRPCInferenceServiceStub) -> None:
    asked = message(BEST, PICTURE, content_type="base64")
    with pytest.raises(grpc.RpcError) as refused:
        stub.ModelInfer(asked)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "no base64" in str(refused.value.details())


def test_pixels_may_be_fp32(server: Server, stub: oip_pb2_grpc.GRPCInferenceServiceStub) -> None:
    crops = crops_of("efficientnet_lite0", "ten_crop", PICTURE)
    name = "efficientnet_lite0.tensor"
    size = {"binary_data_size": crops.nbytes}
    given: dict[str, Any] = {"name": "pixels", "datatype": "UINT8", "shape": crops.shape}
    body = {"inputs": [{**given, "parameters": size}]}
    expected = outputs_of(post_binary(server, name, body, crops.tobytes()))["probabilities"]

    floats = crops.astype("<f4") + np.float32(0.25)
    floats[crops == 255] = 255
    given["datatype"], size["binary_data_size"] = "FP32", floats.nbytes
    body = {"inputs": [{**given, "parameters": size}]}
    ten = outputs_of(post_binary(server, name, body, floats.tobytes()))["probabilities"]
    np.testing.assert_allclose(ten, expected, atol=1e-5)
    given.update(shape=[1, *crops.shape[1:]], data=floats[:1].ravel().tolist())
    one = outputs_of(post(server, name, {"inputs": [given]}))["probabilities"]
    np.testing.assert_allclose(one, expected[:1], atol=1e-5)

    asked = messages.ModelInferRequest(model_name=name)
    asked.inputs.add(name="pixels", datatype="FP32", shape=[1, *crops.shape[1:]])
    asked.inputs[0].contents.fp32_contents.extend(floats[0].ravel())
    typed = outputs_of_message(stub.ModelInfer(asked))["probabilities"]
    np.testing.assert_allclose(typed, expected[:1], atol=1e-5)
