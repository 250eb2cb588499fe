"""The Open Inference Protocol over REST, on a real server with real pictures."""

from __future__ import annotations

import base64
import gzip
import io
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from service import __version__
from tests.harness.oip_client import (
    HEADER,
    Tensors,
    base64_input,
    crops_of,
    outputs_of,
    post,
    post_binary,
    prefixed,
)
from tests.photographs import CHELSEA, COFFEE
from tests.server import Server

PICTURES = [CHELSEA.read_bytes(), COFFEE.read_bytes()]
LITE0 = "efficientnet_lite0"
BEST = f"{LITE0}.topk"
VECTORS = [{"name": "probabilities"}, {"name": "logits"}]
WAYS = [(LITE0, "center"), (LITE0, "ten_crop"), ("lenet5", "center")]


def of_pictures(server: Server, way: str, model: str, **parameters: Any) -> Tensors:
    """Both pictures through one way in; the outputs come the same way."""
    body: dict[str, Any] = {"parameters": parameters}
    if way == "json":
        body["inputs"] = [base64_input(*PICTURES)]
        return outputs_of(post(server, model, body))
    data = prefixed(*PICTURES)
    size = {"binary_data_size": len(data)}
    body["parameters"]["binary_data_output"] = True
    body["inputs"] = [{"name": "image", "datatype": "BYTES", "shape": [2], "parameters": size}]
    return outputs_of(post_binary(server, model, body, data))


@pytest.mark.parametrize("way", ["json", "binary"])
@pytest.mark.parametrize(("model", "protocol"), WAYS)
def test_pictures_are_classified_as_by_classify(
    server: Server, way: str, model: str, protocol: str
) -> None:
    found = of_pictures(server, way, f"{model}.topk", protocol=protocol, top_k=7)
    assert list(found) == ["scores", "indices", "labels"]
    vectors = of_pictures(server, way, model, protocol=protocol)
    assert list(vectors) == ["probabilities"]
    for row, picture in enumerate(PICTURES):
        reply = server.classify(picture, model=model, protocol=protocol, top_k=7)
        expected = reply.json()["predictions"]
        assert found["indices"][row].tolist() == [each["index"] for each in expected]
        assert found["labels"][row].tolist() == [each["label"] for each in expected]
        for ours, theirs in zip(found["scores"][row], expected, strict=True):
            assert ours == pytest.approx(theirs["probability"], abs=1e-6)
        vector = vectors["probabilities"][row]
        assert vector.sum() == pytest.approx(1, abs=1e-4)
        for each in expected:
            assert vector[each["index"]] == pytest.approx(each["probability"], abs=1e-6)


@pytest.mark.parametrize("way", ["json", "binary", "raw"])
@pytest.mark.parametrize(("model", "protocol"), [(LITE0, "ten_crop"), ("lenet5", "center")])
def test_crops_give_what_their_picture_gives(
    server: Server, way: str, model: str, protocol: str
) -> None:
    crops = crops_of(model, protocol, PICTURES[1])
    if way == "json":
        crops = crops[:5]  # ten would be more values than JSON may hold
    name = f"{model}.tensor"
    given: dict[str, Any] = {"name": "pixels", "datatype": "UINT8", "shape": crops.shape}
    if way == "raw":
        path = f"/v2/models/{name}/infer"
        found = outputs_of(server.client.post(path, content=crops.tobytes(), headers={HEADER: "0"}))
        assert list(found) == ["probabilities"]
    elif way == "json":
        given["data"] = crops.tolist()
        found = outputs_of(post(server, name, {"inputs": [given], "outputs": VECTORS}))
    else:
        given["parameters"] = {"binary_data_size": crops.nbytes}
        body = {"inputs": [given], "outputs": VECTORS}
        found = outputs_of(post_binary(server, name, body, crops.tobytes()))
    if way != "raw":
        assert list(found) == ["probabilities", "logits"]
        exponents = np.exp(found["logits"] - found["logits"].max(axis=1, keepdims=True))
        softmax = exponents / exponents.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(found["probabilities"], softmax, atol=1e-5)
    if way == "json" and protocol == "ten_crop":
        return
    first = server.classify(PICTURES[1], model=model, protocol=protocol).json()["predictions"][0]
    mean = found["probabilities"].mean(axis=0, dtype=np.float64)
    assert mean.argmax() == first["index"]
    assert mean.max() == pytest.approx(first["probability"], abs=1e-6)


def test_flat_and_nested_values_are_the_same(server: Server) -> None:
    crops = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 1), np.uint8)
    nested, flat = (
        outputs_of(
            post(
                server,
                "lenet5.tensor",
                {
                    "inputs": [
                        {"name": "pixels", "datatype": "UINT8", "shape": crops.shape, "data": data}
                    ]
                },
            )
        )
        for data in (crops.tolist(), crops.ravel().tolist())
    )
    np.testing.assert_allclose(nested["probabilities"], flat["probabilities"], atol=1e-6)


def test_a_picture_alone_is_a_request_too(server: Server) -> None:
    reply = server.client.post(
        f"/v2/models/{BEST}/infer", content=PICTURES[1], headers={HEADER: "0"}
    )
    assert outputs_of(reply)["labels"][0, 0] == "espresso"


def test_outputs_come_as_requested(server: Server) -> None:
    body = {
        "id": "ünï-42",
        "parameters": {"binary_data_output": True, "top_k": 2},
        "inputs": [base64_input(PICTURES[1])],
        "outputs": [
            {"name": "labels", "parameters": {"binary_data": False}},
            {"name": "scores"},
        ],
    }
    reply = post(server, BEST, body)
    found = outputs_of(reply)
    assert list(found) == ["labels", "scores"]
    assert found["scores"].shape == (1, 2)
    assert '"id":"ünï-42"'.encode() in reply.content
    assert b'"data":["espresso","cup"]' in reply.content


@pytest.mark.parametrize("face", ["", ".topk"])
@pytest.mark.parametrize(("name", "asked", "count"), [(LITE0, 3, 3), ("lenet5", 30, 10)])
def test_classes_come_as_text(server: Server, face: str, name: str, asked: int, count: int) -> None:
    """At most as many as there are, as Triton gives them."""
    output = "scores" if face else "probabilities"
    wanted = [{"name": output, "parameters": {"classification": asked}}]
    body = {"inputs": [base64_input(*PICTURES)], "outputs": wanted}
    found = outputs_of(post(server, name + face, body))
    assert found[output].shape == (2, count)
    for row, picture in enumerate(PICTURES):
        predictions = server.classify(picture, model=name, top_k=count).json()["predictions"]
        for text, expected in zip(found[output][row], predictions, strict=True):
            value, index, label = text.split(":", 2)
            assert (int(index), label) == (expected["index"], expected["label"])
            assert float(value) == pytest.approx(expected["probability"], abs=1e-6)


def test_classes_of_crops_come_as_text(server: Server) -> None:
    crops = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 1), np.uint8)
    given = {"name": "pixels", "datatype": "UINT8", "shape": crops.shape, "data": crops.tolist()}
    plain = outputs_of(post(server, "lenet5.tensor", {"inputs": [given], "outputs": VECTORS}))
    wanted = [{"name": name, "parameters": {"classification": 2}} for name in plain]
    found = outputs_of(post(server, "lenet5.tensor", {"inputs": [given], "outputs": wanted}))
    for name, texts in found.items():
        for row, values in zip(texts, plain[name], strict=True):
            best = values.argsort()[::-1][:2]
            assert [int(text.split(":")[1]) for text in row] == best.tolist()
            assert float(row[0].split(":")[0]) == pytest.approx(values[best[0]], abs=1e-5)


def test_an_answer_has_the_members_that_the_specification_names(server: Server) -> None:
    """The specification's own requests, which name other tensors: test_oip_specification.py."""
    given = {"name": "pixels", "shape": [2, 32, 32, 1], "datatype": "UINT8", "data": [1, 2] * 1024}
    body = {"id": "42", "inputs": [given], "outputs": [{"name": "logits"}]}
    reply = post(server, "lenet5.tensor", body)
    assert reply.headers["content-type"] == "application/json"
    content = reply.json()
    (output,) = content.pop("outputs")
    assert content == {"model_name": "lenet5.tensor", "model_version": "1", "id": "42"}
    assert len(output.pop("data")) == 20
    assert output == {"name": "logits", "shape": [2, 10], "datatype": "FP32"}


def test_a_body_may_say_what_its_path_says(server: Server) -> None:
    given = {"name": "pixels", "shape": [1, 32, 32, 1], "datatype": "UINT8", "data": [1] * 1024}
    for path, said in (
        ("lenet5.tensor", {"model_name": "lenet5.tensor", "model_version": "1"}),
        ("lenet5.tensor/versions/1", {"model_name": "lenet5.tensor", "model_version": "1"}),
        ("lenet5.tensor/versions/1", {"model_name": "", "model_version": None}),
    ):
        assert outputs_of(post(server, path, {**said, "inputs": [given]}))
    missing = post(server, "lenet5.tensor", {"model_version": "2", "inputs": [given]})
    assert (missing.status_code, missing.json()["code"]) == (404, "unknown_model")


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "identity"])
def test_bodies_may_be_compressed(server: Server, encoding: str) -> None:
    packs: dict[str, Any] = {"gzip": gzip.compress, "deflate": zlib.compress, "identity": bytes}
    reply = server.client.post(
        f"/v2/models/{BEST}/infer",
        content=packs[encoding](PICTURES[1]),
        headers={HEADER: "0", "Content-Encoding": encoding},
    )
    assert outputs_of(reply)["labels"][0, 0] == "espresso"


def test_exif_can_be_ignored(server: Server) -> None:
    exif = Image.Exif()
    exif[274] = 3
    turned = io.BytesIO()
    with Image.open(CHELSEA) as picture:
        picture.save(turned, "PNG", exif=exif)
    found = {}
    for way in ("apply", "ignore"):
        body = {"parameters": {"exif": way}, "inputs": [base64_input(turned.getvalue())]}
        found[way] = outputs_of(post(server, BEST, body))["scores"][0, 0]
        expected = server.classify(turned.getvalue(), exif=way).json()["predictions"][0]
        assert found[way] == pytest.approx(expected["probability"], abs=1e-6)
    assert found["apply"] != pytest.approx(found["ignore"], abs=1e-4)


def test_the_server_and_its_models_describe_themselves(server: Server) -> None:
    about = server.client.get("/v2").json()
    assert about["version"] == __version__
    assert {"binary_tensor_data", "classification", "statistics"} <= set(about["extensions"])
    assert server.client.get("/v2/health/live").json()["live"] is True
    assert server.client.get("/v2/health/ready").json()["ready"] is True
    for model in (LITE0, "lenet5"):
        for name in (model, f"{model}.tensor", f"{model}.topk"):
            for path in (f"/v2/models/{name}", f"/v2/models/{name}/versions/1"):
                assert server.client.get(f"{path}/ready").json() == {"name": name, "ready": True}
                metadata = server.client.get(path).json()
                assert (metadata["name"], metadata["versions"]) == (name, ["1"])
                config = server.client.get(f"{path}/config").json()
                check_config(metadata, config)
    vector = {"name": "probabilities", "datatype": "FP32", "shape": [-1, 10]}
    image = {"name": "image", "datatype": "BYTES", "shape": [-1, 1]}
    pixels = {"name": "pixels", "datatype": "UINT8", "shape": [-1, 32, 32, 1]}
    for face, given in (("", image), (".tensor", pixels)):
        about = server.client.get(f"/v2/models/lenet5{face}").json()
        assert (about["inputs"], about["outputs"]) == ([given], [vector])
    best = server.client.get("/v2/models/lenet5.topk").json()
    assert best["inputs"] == [image]
    assert [(each["name"], each["datatype"]) for each in best["outputs"]] == [
        ("scores", "FP32"),
        ("indices", "INT64"),
        ("labels", "BYTES"),
    ]


def check_config(metadata: dict[str, Any], config: dict[str, Any]) -> None:
    """Its tensors are those of the metadata, without the batch's dimension."""
    assert config["max_batch_size"] > 0
    skip = 1
    types = {"BYTES": "TYPE_STRING"}
    for described, tensors in (("inputs", "input"), ("outputs", "output")):
        assert [
            (tensor["name"], tensor["data_type"], tensor["dims"]) for tensor in config[tensors]
        ] == [
            (t["name"], types.get(t["datatype"], f"TYPE_{t['datatype']}"), t["shape"][skip:])
            for t in metadata[described]
        ]


def test_a_request_is_logged_with_what_it_asked(server: Server) -> None:
    picture = base64.b64encode(PICTURES[1]).decode()
    body = {"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "data": [picture]}]}
    reply = post(server, LITE0, body, headers={"X-Request-ID": "oip-1"})
    assert reply.headers["X-Request-ID"] == "oip-1"
    line = server.logged("request_id=oip-1")
    assert f"model={LITE0}" in line
    assert "code=ok" in line
