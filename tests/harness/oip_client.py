"""Requests of the Open Inference Protocol, made by hand: what a client's library would send."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import httpx
import numpy as np

from service.imaging.decode import decode
from service.imaging.protocols import PROTOCOLS
from service.repository.versions_on_disk import find
from service.transports.grpc.protos import oip_pb2 as messages
from tests.harness.edited_versions import network_manifest
from tests.paths import ROOT
from tests.server import Server

DTYPES = {"FP32": "<f4", "INT64": "<i8", "UINT8": "u1"}
HEADER = "Inference-Header-Content-Length"

Tensors = dict[str, np.ndarray]


def base64_input(*pictures: bytes) -> dict[str, Any]:
    data = [base64.b64encode(picture).decode() for picture in pictures]
    return {"name": "image", "datatype": "BYTES", "shape": [len(pictures)], "data": data}


def prefixed(*elements: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(element)) + element for element in elements)


def elements(data: bytes) -> list[bytes]:
    found = []
    while data:
        (length,) = struct.unpack_from("<I", data)
        found.append(data[4 : 4 + length])
        data = data[4 + length :]
    return found


def post(server: Server, model: str, body: dict[str, Any], **more: Any) -> httpx.Response:
    return server.client.post(f"/v2/models/{model}/infer", json=body, **more)


def post_binary(
    server: Server, model: str, body: dict[str, Any], *data: bytes, **more: Any
) -> httpx.Response:
    text = json.dumps(body).encode()
    return server.client.post(
        f"/v2/models/{model}/infer",
        content=b"".join((text, *data)),
        headers={HEADER: str(len(text))},
        **more,
    )


def outputs_of(reply: httpx.Response) -> Tensors:
    """The outputs of an answer over REST, in JSON or in binary, by name and in order."""
    assert reply.status_code == 200, reply.text
    length = reply.headers.get(HEADER)
    text, data = reply.content, b""
    if length is not None:
        assert reply.headers["content-type"] == "application/octet-stream"
        text, data = reply.content[: int(length)], reply.content[int(length) :]
    found = {}
    for output in json.loads(text)["outputs"]:
        if "data" in output:
            assert "parameters" not in output
            values = np.array(output["data"], DTYPES.get(output["datatype"]))
        else:
            size = output["parameters"]["binary_data_size"]
            values, data = _array(output["datatype"], data[:size]), data[size:]
        found[output["name"]] = values.reshape(output["shape"])
    assert not data
    return found


def outputs_of_message(answer: messages.ModelInferResponse) -> Tensors:
    raw = answer.raw_output_contents
    assert len(raw) == len(answer.outputs)
    return {
        output.name: _array(output.datatype, data).reshape(list(output.shape))
        for output, data in zip(answer.outputs, raw, strict=True)
    }


def _array(datatype: str, data: bytes) -> np.ndarray:
    if datatype == "BYTES":
        return np.array([element.decode() for element in elements(data)])
    return np.frombuffer(data, DTYPES[datatype])


def message(model: str, *pictures: bytes, **parameters: Any) -> messages.ModelInferRequest:
    """A request for pictures with raw contents."""
    asked = messages.ModelInferRequest(model_name=model, raw_input_contents=[prefixed(*pictures)])
    asked.inputs.add(name="image", datatype="BYTES", shape=[len(pictures)])
    set_parameters(asked, parameters)
    return asked


def set_parameters(asked: Any, parameters: dict[str, Any]) -> None:
    fields = {bool: "bool_param", int: "int64_param", str: "string_param", float: "double_param"}
    for name, value in parameters.items():
        setattr(asked.parameters[name], fields[type(value)], value)


def crops_of(model: str, protocol: str, picture: bytes) -> np.ndarray:
    """What the protocol cuts from a picture, uint8 [N, height, width, channels]."""
    (found,) = [found for found in find(ROOT / "models") if found.name == model]
    image = decode(picture, max_pixels=10_000_000)
    (crops,) = PROTOCOLS[protocol].crops(image, network_manifest(found))
    return crops
