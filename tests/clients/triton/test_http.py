"""tritonclient over HTTP: JSON beside binary data, compression, calls that are not waited for."""

from __future__ import annotations

import numpy as np
import pytest
import requests
from tritonclient.utils import InferenceServerException

from tests.clients.triton.conftest import Triton
from tests.server import Server

HEADER_LENGTH = "Inference-Header-Content-Length"
LITE = "efficientnet_lite0"
BEST = f"{LITE}.topk"


@pytest.mark.parametrize("binary_output", [True, False])
@pytest.mark.parametrize("binary_input", [True, False])
def test_binary_and_json_are_the_same(
    over_http: Triton, pictures: dict[str, bytes], binary_input: bool, binary_output: bool
) -> None:
    cat = pictures["cat"]
    expected = over_http.client.infer(BEST, [over_http.images(cat)])
    asked = over_http.images(cat) if binary_input else over_http.images_in_json(cat)
    names = ("scores", "indices", "labels")
    outputs = [
        over_http.module.InferRequestedOutput(name, binary_data=binary_output) for name in names
    ]
    answer = over_http.client.infer(BEST, [asked], outputs=outputs)
    np.testing.assert_allclose(
        answer.as_numpy("scores"), expected.as_numpy("scores"), rtol=0, atol=1e-6
    )
    assert answer.as_numpy("indices").tolist() == expected.as_numpy("indices").tolist()
    texts = [label.decode() for label in expected.as_numpy("labels")[0]]
    labels = answer.as_numpy("labels")[0].tolist()
    assert [label.decode() if binary_output else label for label in labels] == texts


def test_inputs_and_outputs_may_be_mixed(over_http: Triton, pictures: dict[str, bytes]) -> None:
    outputs = [
        over_http.module.InferRequestedOutput("labels", binary_data=True),
        over_http.module.InferRequestedOutput("scores", binary_data=False),
    ]
    answer = over_http.client.infer(
        BEST, [over_http.images_in_json(pictures["coffee"])], outputs=outputs
    )
    assert answer.as_numpy("labels")[0, 0] == b"espresso"
    assert answer.as_numpy("scores")[0, 0] > 0.5


def test_crops_may_be_json(over_http: Triton) -> None:
    crops = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 1), np.uint8)
    in_json = over_http.module.InferInput("pixels", [2, 32, 32, 1], "UINT8")
    in_json.set_data_from_numpy(crops, binary_data=False)
    first, second = (
        over_http.client.infer("lenet5.tensor", [asked]).as_numpy("probabilities")
        for asked in (in_json, over_http.pixels(crops))
    )
    np.testing.assert_allclose(first, second, rtol=0, atol=1e-5)


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_requests_may_be_compressed(
    over_http: Triton, pictures: dict[str, bytes], algorithm: str
) -> None:
    answer = over_http.client.infer(
        BEST,
        [over_http.images(pictures["coffee"])],
        request_compression_algorithm=algorithm,
        response_compression_algorithm=algorithm,  # a wish, which may be left unanswered
    )
    assert answer.as_numpy("labels")[0, 0] == b"espresso"


def test_bodies_that_a_program_makes_and_reads_itself(
    server: Server, over_http: Triton, pictures: dict[str, bytes]
) -> None:
    body, length = over_http.module.InferenceServerClient.generate_request_body(
        [over_http.images(pictures["coffee"])], request_id="mine"
    )
    assert length < len(body)
    response = requests.post(
        f"{server.url}/v2/models/{BEST}/versions/1/infer",
        data=body,
        headers={HEADER_LENGTH: str(length)},
        timeout=60,
    )
    answer = over_http.module.InferenceServerClient.parse_response_body(
        response.content, header_length=int(response.headers[HEADER_LENGTH])
    )
    assert answer.get_response()["id"] == "mine"
    assert answer.as_numpy("labels")[0, 0] == b"espresso"


def test_calls_may_be_collected_later(over_http: Triton, pictures: dict[str, bytes]) -> None:
    names = ["cat", "coffee", "flower", "palace"]
    calls = [over_http.client.async_infer(BEST, [over_http.images(pictures[n])]) for n in names]
    labels = [call.get_result().as_numpy("labels")[0, 0] for call in calls]
    assert labels[1:] == [b"espresso", b"daisy", b"palace"]
    broken = over_http.client.async_infer(LITE, [over_http.images(b"text")])
    with pytest.raises(InferenceServerException, match="picture 0"):
        broken.get_result()
