"""tritonclient, synchronously: what its users write is the same over HTTP and gRPC."""

from __future__ import annotations

import numpy as np
import pytest
from tritonclient.utils import InferenceServerException

from tests.clients import crops
from tests.clients.triton.conftest import Triton
from tests.server import Server

LITE = "efficientnet_lite0"
BEST = f"{LITE}.topk"
CATS = {b"tabby", b"tiger cat", b"Egyptian cat"}


def status(code: int, name: str, triton: Triton) -> str:
    """As tritonclient gives the status of an error."""
    return str(code) if triton.transport == "http" else f"StatusCode.{name}"


def test_server_and_models_are_live_and_ready(triton: Triton) -> None:
    client = triton.client
    assert client.is_server_live()
    assert client.is_server_ready()
    for model in (LITE, f"{LITE}.tensor", BEST, "lenet5", "lenet5.tensor"):
        assert client.is_model_ready(model)
        assert client.is_model_ready(model, "1")


def test_the_server_describes_itself(triton: Triton) -> None:
    metadata = triton.described("server_metadata")
    assert metadata["name"] == "imagenet-zoo-server"
    assert {"classification", "statistics", "model_repository"} <= set(metadata["extensions"])


def test_a_model_describes_itself(triton: Triton) -> None:
    metadata = triton.described("model_metadata", LITE)
    assert (metadata["name"], metadata["versions"]) == (LITE, ["1"])
    (given,) = metadata["inputs"]
    assert (given["name"], given["datatype"], list(map(int, given["shape"]))) == (
        "image",
        "BYTES",
        [-1, 1],
    )
    best = triton.described("model_metadata", BEST)["outputs"]
    assert [output["name"] for output in best] == ["scores", "indices", "labels"]

    cut = triton.described("model_metadata", f"{LITE}.tensor", "1")
    (given,) = cut["inputs"]
    assert (given["datatype"], list(map(int, given["shape"]))) == ("UINT8", [-1, 224, 224, 3])
    for outputs in (metadata["outputs"], cut["outputs"]):
        (vector,) = outputs
        assert (vector["name"], vector["datatype"]) == ("probabilities", "FP32")
        assert list(map(int, vector["shape"])) == [-1, 1000]


def test_the_configuration_is_triton_s(triton: Triton) -> None:
    config = triton.described("model_config", f"{LITE}.tensor")
    config = config.get("config", config)  # gRPC has a message around it
    assert config["name"] == f"{LITE}.tensor"
    assert config["max_batch_size"] >= 144
    (given,) = config["input"]
    assert (given["name"], given["data_type"]) == ("pixels", "TYPE_UINT8")
    assert list(map(int, given["dims"])) == [224, 224, 3]
    assert {output["data_type"] for output in config["output"]} == {"TYPE_FP32"}

    config = triton.described("model_config", LITE)
    config = config.get("config", config)
    assert config["max_batch_size"] == 32
    assert [list(map(int, given["dims"])) for given in config["input"]] == [[1]]


def test_statistics_count_what_was_sent(triton: Triton, pictures: dict[str, bytes]) -> None:
    def counted() -> tuple[int, int]:
        (of,) = triton.described("inference_statistics", LITE, "1")["model_stats"]
        return int(of["inference_count"]), int(of["inference_stats"]["success"]["count"])

    inferences, requests = counted()
    triton.client.infer(LITE, [triton.images(pictures["cat"], pictures["coffee"])])
    assert counted() == (inferences + 2, requests + 1)
    of_all = triton.described("inference_statistics")["model_stats"]
    assert {of["name"] for of in of_all} == {LITE, "lenet5"}


def test_pictures_are_classified_in_order(triton: Triton, pictures: dict[str, bytes]) -> None:
    asked = triton.images(*(pictures[name] for name in ("cat", "coffee", "flower", "palace")))
    answer = triton.client.infer(BEST, [asked], parameters={"top_k": 2})
    labels = answer.as_numpy("labels")
    assert labels[0, 0] in CATS
    assert labels[1:, 0].tolist() == [b"espresso", b"daisy", b"palace"]
    scores, indices = answer.as_numpy("scores"), answer.as_numpy("indices")
    assert scores.shape == indices.shape == labels.shape == (4, 2)
    assert (scores.dtype, indices.dtype) == (np.float32, np.int64)
    assert (scores[:, 0] > scores[:, 1]).all()
    assert indices[1, 0] == 967


def test_only_the_outputs_that_were_asked_for_come(
    triton: Triton, pictures: dict[str, bytes]
) -> None:
    wanted = triton.module.InferRequestedOutput("labels")
    asked = [triton.images(pictures["coffee"])]
    answer = triton.client.infer(BEST, asked, outputs=[wanted])
    assert answer.as_numpy("labels")[0, 0] == b"espresso"
    assert answer.as_numpy("scores") is None
    wanted = [triton.module.InferRequestedOutput(name) for name in ("logits", "probabilities")]
    answer = triton.client.infer(LITE, asked, outputs=wanted)
    logits, probabilities = (answer.as_numpy(name)[0] for name in ("logits", "probabilities"))
    exponents = np.exp(logits - logits.max())
    np.testing.assert_allclose(probabilities, exponents / exponents.sum(), atol=1e-5)


def test_classes_come_as_text(triton: Triton, pictures: dict[str, bytes]) -> None:
    asked = [triton.images(pictures["cat"], pictures["coffee"])]
    plain = triton.client.infer(BEST, asked)
    wanted = triton.module.InferRequestedOutput("probabilities", class_count=5)
    texts = triton.client.infer(LITE, asked, outputs=[wanted]).as_numpy("probabilities")
    assert texts.shape == (2, 5)
    for place, text in np.ndenumerate(texts):
        value, index, label = text.split(b":")
        assert float(value) == pytest.approx(plain.as_numpy("scores")[place], abs=1e-6)
        assert int(index) == plain.as_numpy("indices")[place]
        assert label == plain.as_numpy("labels")[place]


def test_the_request_id_comes_back(
    server: Server, triton: Triton, pictures: dict[str, bytes]
) -> None:
    asked, trace = [triton.images(pictures["cat"])], f"triton-{triton.transport}"
    answer = triton.client.infer(
        LITE, asked, request_id="number 7", headers={"x-request-id": trace}
    )
    response = answer.get_response()
    assert (response["id"] if triton.transport == "http" else response.id) == "number 7"
    assert "code=ok" in server.logged(f"request_id={trace}")


def test_crops_of_the_client_are_the_server_s(triton: Triton, pictures: dict[str, bytes]) -> None:
    square = pictures["square"]
    whole = triton.client.infer(LITE, [triton.images(square)])
    cut = triton.client.infer(f"{LITE}.tensor", [triton.pixels(crops.center(square))])
    probabilities = cut.as_numpy("probabilities")
    assert probabilities.shape == (1, 1000)
    np.testing.assert_allclose(probabilities, whole.as_numpy("probabilities"), rtol=0, atol=1e-6)


def test_ten_crops_of_the_client_are_the_server_s(
    triton: Triton, pictures: dict[str, bytes]
) -> None:
    square = pictures["square"]
    asked = {"protocol": "ten_crop"}
    whole = triton.client.infer(LITE, [triton.images(square)], parameters=asked)
    cut = triton.client.infer(f"{LITE}.tensor", [triton.pixels(crops.ten(square))])
    mean = cut.as_numpy("probabilities").mean(axis=0)
    np.testing.assert_allclose(mean, whole.as_numpy("probabilities")[0], rtol=0, atol=1e-6)


def test_gray_crops(triton: Triton, pictures: dict[str, bytes]) -> None:
    seven = pictures["seven"]
    whole = triton.client.infer("lenet5.topk", [triton.images(seven)], parameters={"top_k": 1})
    assert whole.as_numpy("labels")[0, 0] == b"7"
    pixels = crops.pixels(seven)[None, :, :, None]
    cut = triton.client.infer("lenet5.tensor", [triton.pixels(pixels)])
    assert cut.as_numpy("probabilities")[0].max() == pytest.approx(
        whole.as_numpy("scores")[0, 0], abs=1e-6
    )


@pytest.mark.parametrize(
    ("model", "name", "datatype", "values", "words"),
    [
        (LITE, "image", "INT32", np.zeros(1, np.int32), "INT32"),
        (LITE, "picture", "BYTES", np.array([b"x"], object), "'picture'"),
        (LITE, "image", "BYTES", np.array([[b"x", b"x"]], object), "shape"),
        (f"{LITE}.tensor", "pixels", "INT64", np.zeros((1, 224, 224, 3), np.int64), "UINT8"),
        (f"{LITE}.tensor", "pixels", "UINT8", np.zeros((1, 3, 224, 224), np.uint8), "shape"),
        (f"{LITE}.tensor", "pixels", "UINT8", np.zeros((224, 224, 3), np.uint8), "shape"),
        (f"{LITE}.tensor", "pixels", "UINT8", np.zeros((0, 224, 224, 3), np.uint8), "shape"),
    ],
)
def test_tensors_that_are_not_the_model_s_are_refused(
    triton: Triton, model: str, name: str, datatype: str, values: np.ndarray, words: str
) -> None:
    with pytest.raises(InferenceServerException, match=words) as refused:
        triton.client.infer(model, [triton.tensor(name, datatype, values)])
    assert refused.value.status() == status(400, "INVALID_ARGUMENT", triton)


def test_what_is_no_picture_is_refused(triton: Triton, pictures: dict[str, bytes]) -> None:
    half = pictures["cat"][:5000]
    for broken, code in ((b"text", 415), (half, 422)):
        with pytest.raises(InferenceServerException, match="picture 1") as refused:
            triton.client.infer(LITE, [triton.images(pictures["coffee"], broken)])
        assert refused.value.status() == status(code, "INVALID_ARGUMENT", triton)


@pytest.mark.parametrize(("model", "version"), [("nothing", ""), (LITE, "9"), ("a.tensor", "")])
def test_unknown_models_are_refused(
    triton: Triton, pictures: dict[str, bytes], model: str, version: str
) -> None:
    for ask in (
        lambda: triton.client.infer(model, [triton.images(pictures["cat"])], version),
        lambda: triton.client.get_model_metadata(model, version),
        lambda: triton.client.get_model_config(model, version),
        lambda: triton.client.get_inference_statistics(model, version),
    ):
        with pytest.raises(
            InferenceServerException, match=r"there is no|has no version"
        ) as refused:
            ask()
        assert refused.value.status() == status(404, "NOT_FOUND", triton)


def test_parameters_and_outputs_that_do_not_exist_are_refused(
    triton: Triton, pictures: dict[str, bytes]
) -> None:
    asked = [triton.images(pictures["cat"])]
    output = triton.module.InferRequestedOutput
    for more in (
        {"parameters": {"protocl": "center"}},
        {"parameters": {"protocol": "none"}},
        {"parameters": {"top_k": 1001}},
        {"outputs": [output("probabilities")]},
        {"outputs": [output("labels", class_count=5)]},
    ):
        with pytest.raises(InferenceServerException) as refused:
            triton.client.infer(BEST, asked, **more)
        assert refused.value.status() == status(400, "INVALID_ARGUMENT", triton)


def test_shared_memory_is_refused(triton: Triton) -> None:
    shared = triton.module.InferInput("image", [1], "BYTES")
    shared.set_shared_memory("region", 100)
    with pytest.raises(InferenceServerException, match="shared memory"):
        triton.client.infer(LITE, [shared])
    with pytest.raises(InferenceServerException) as refused:
        triton.client.register_system_shared_memory("region", "/region", 100)
    assert refused.value.status() == status(404, "UNIMPLEMENTED", triton)


def test_a_timeout_is_a_deadline(triton: Triton, pictures: dict[str, bytes]) -> None:
    asked = [triton.images(*[pictures["cat"]] * 8)]
    with pytest.raises(InferenceServerException) as refused:
        triton.client.infer(LITE, asked, parameters={"protocol": "ten_crop"}, timeout=1000)
    assert refused.value.status() == status(504, "DEADLINE_EXCEEDED", triton)


def test_a_model_without_priorities_ignores_them(
    triton: Triton, pictures: dict[str, bytes]
) -> None:
    asked = [triton.images(pictures["coffee"])]
    answer = triton.client.infer(BEST, asked, priority=1, sequence_id=5, sequence_start=True)
    assert answer.as_numpy("labels")[0, 0] == b"espresso"
