"""The calls that the example clients of Triton and of OpenVINO Model Server make, step by step.

Written anew after their published sources: Triton's image_client.py, grpc_image_client.py and
ensemble_image_client.py, OpenVINO Model Server's grpc_ and http_infer_(binary_)resnet.py. What
they check of a model is checked here, and pictures are resized as they do.
"""

from __future__ import annotations

import io
from typing import Any

import grpc
import numpy as np
import pytest
import requests
import tritonclient.grpc
from PIL import Image
from tritonclient.grpc import model_config_pb2, service_pb2, service_pb2_grpc

from tests.clients.triton.conftest import Triton
from tests.clients.triton.test_both import CATS, LITE
from tests.server import Server

NHWC = model_config_pb2.ModelInput.FORMAT_NHWC
CLASSES = {"coffee": 967, "flower": 985, "palace": 698}
"""What the pictures show, as ImageNet numbers it; of a cat see CATS."""


def resized(picture: bytes, width: int, height: int) -> np.ndarray:
    with Image.open(io.BytesIO(picture)) as image:
        return np.array(image.convert("RGB").resize((width, height), Image.Resampling.BILINEAR))


def parsed(triton: Triton, model: str) -> tuple[int, str, str, str, tuple[int, int, int]]:
    """image_client.py's parse_model: one input of an image, one output that is a vector."""
    metadata = triton.described("model_metadata", model)
    config = triton.described("model_config", model)
    config = config.get("config", config)
    assert len(metadata["inputs"]) == len(metadata["outputs"]) == len(config["input"]) == 1
    given, output = metadata["inputs"][0], metadata["outputs"][0]
    assert output["datatype"] == "FP32"
    most = config["max_batch_size"]
    shape = list(map(int, output["shape"]))[1 if most else 0 :]
    assert sum(size > 1 for size in shape) == 1
    height, width, channels = list(map(int, given["shape"]))[1:]
    assert config["input"][0]["format"] in ("FORMAT_NHWC", NHWC)
    return most, given["name"], output["name"], given["datatype"], (height, width, channels)


def test_image_client(triton: Triton, pictures: dict[str, bytes]) -> None:
    """With `-s NONE`: mean and scale lie in the model."""
    most, given, output, datatype, (height, width, _) = parsed(triton, f"{LITE}.tensor")
    assert most >= 2
    crops = np.stack([resized(pictures[name], width, height) for name in ("cat", "coffee")])
    images = triton.module.InferInput(given, crops.shape, datatype)
    images.set_data_from_numpy(crops)
    wanted = triton.module.InferRequestedOutput(output, class_count=3)
    answer = triton.client.infer(f"{LITE}.tensor", [images], outputs=[wanted])
    rows = answer.as_numpy(output)
    assert rows.shape == (2, 3)
    best = [b"".join([row[0]]).decode().split(":") for row in rows]
    assert best[0][2].encode() in CATS
    assert (best[1][1], best[1][2]) == ("967", "espresso")
    assert float(best[1][0]) > 0.5


@pytest.mark.parametrize("streaming", [False, True])
def test_grpc_image_client(server: Server, pictures: dict[str, bytes], streaming: bool) -> None:
    """Its own stub, `classification` as a parameter, raw contents of the bytes of the array."""
    with grpc.insecure_channel(server.grpc_address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        model = f"{LITE}.tensor"
        metadata = stub.ModelMetadata(service_pb2.ModelMetadataRequest(name=model, version=""))
        config = stub.ModelConfig(service_pb2.ModelConfigRequest(name=model, version="")).config
        assert len(metadata.inputs) == len(metadata.outputs) == len(config.input) == 1
        assert (config.input[0].format, config.max_batch_size > 0) == (NHWC, True)
        _, height, width, channels = metadata.inputs[0].shape
        request = service_pb2.ModelInferRequest(model_name=model, model_version="")
        request.outputs.add(name=metadata.outputs[0].name)
        request.outputs[0].parameters["classification"].int64_param = 3
        given = metadata.inputs[0]
        shape = [1, height, width, channels]
        request.inputs.add(name=given.name, datatype=given.datatype, shape=shape)
        request.raw_input_contents.append(resized(pictures["coffee"], width, height).tobytes())
        if streaming:
            (streamed,) = stub.ModelStreamInfer(iter([request]))
            assert not streamed.error_message
            answer = streamed.infer_response
        else:
            answer = stub.ModelInfer(request)
    assert len(answer.outputs) == len(answer.raw_output_contents) == 1
    (output,) = answer.outputs
    found = tritonclient.utils.deserialize_bytes_tensor(answer.raw_output_contents[0])
    assert found.reshape(list(output.shape)).shape == (1, 3)
    assert found[0].endswith(b":967:espresso")


def test_ensemble_image_client(triton: Triton, pictures: dict[str, bytes]) -> None:
    """Files as they are, [N, 1], for a model that batches; classes of every output."""
    metadata = triton.described("model_metadata", LITE)
    config = triton.described("model_config", LITE)
    config = config.get("config", config)
    assert len(metadata["inputs"]) == len(config["input"]) == 1
    names = ["cat", *CLASSES]
    assert len(names) <= config["max_batch_size"]  # it would send no more
    batch = np.stack([np.array([pictures[name]], dtype=bytes) for name in names])
    images = triton.module.InferInput(metadata["inputs"][0]["name"], batch.shape, "BYTES")
    images.set_data_from_numpy(batch)
    outputs = [output["name"] for output in metadata["outputs"]]
    wanted = [triton.module.InferRequestedOutput(name, class_count=2) for name in outputs]
    answer = triton.client.infer(LITE, [images], outputs=wanted)
    for name in outputs:
        rows = answer.as_numpy(name)
        assert rows.shape == (len(names), 2)
        best = [int(row[0].split(b":")[1]) for row in rows]
        assert best[1:] == list(CLASSES.values())
        assert rows[0, 0].split(b":")[2] in CATS


def test_openvino_s_binary_samples(triton: Triton, pictures: dict[str, bytes]) -> None:
    """grpc_ and http_infer_binary_resnet.py take the output for a vector in the classes' order."""
    names = list(CLASSES)
    images = triton.module.InferInput("image", [len(names)], "BYTES")
    images.set_data_from_numpy(np.array([pictures[name] for name in names], dtype=np.object_))
    wanted = triton.module.InferRequestedOutput("probabilities")
    answer = triton.client.infer(model_name=LITE, inputs=[images], outputs=[wanted])
    rows = np.array(answer.as_numpy("probabilities"))
    assert rows.shape == (len(names), 1000)
    found = [int(np.argmax(rows[[row], ...])) for row in range(len(names))]
    assert found == list(CLASSES.values())


def test_openvino_s_tensor_samples(triton: Triton, pictures: dict[str, bytes]) -> None:
    """grpc_ and http_infer_resnet.py stretch pixels to 0 to 255, and send them as FP32."""
    pixels = np.stack([resized(pictures[name], 224, 224) for name in ("coffee", "flower")])
    pixels = pixels.astype(np.float32)
    pixels = pixels - np.min(pixels)
    pixels = pixels / np.ptp(pixels) * 255
    ways: list[dict[str, Any]] = [{}]
    if triton.transport == "http":
        ways = [{"binary_data": True}, {"binary_data": False}]
    for way in ways:
        images = triton.module.InferInput("pixels", pixels.shape, "FP32")
        images.set_data_from_numpy(pixels, **way)
        answer = triton.client.infer(model_name=f"{LITE}.tensor", inputs=[images], outputs=[])
        assert answer.as_numpy("probabilities").argmax(axis=1).tolist() == [967, 985]


def test_openvino_s_requests_may_leave_out_the_size(
    server: Server, pictures: dict[str, bytes]
) -> None:
    """Of the only input: its page on the REST API."""
    text = b'{"inputs":[{"name":"image","shape":[1],"datatype":"BYTES"}]}'
    picture = pictures["coffee"]
    data = text + len(picture).to_bytes(4, "little") + picture
    headers = {"Inference-Header-Content-Length": str(len(text))}
    reply = requests.post(
        f"{server.url}/v2/models/{LITE}/infer", data=data, headers=headers, timeout=60
    )
    (output,) = reply.json()["outputs"]
    assert int(np.argmax(output["data"])) == 967
