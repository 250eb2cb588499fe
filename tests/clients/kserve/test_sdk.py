"""The clients of the KServe SDK, version 2 of the protocol, over REST and gRPC.

In a process of its own: its messages and tritonclient's have the same protocol package.
"""

from __future__ import annotations

import base64

import grpc
import httpx
import numpy as np
import pytest
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.infer_type import RequestedOutput

from tests.clients import crops
from tests.server import Server

LITE = "efficientnet_lite0"
BEST = f"{LITE}.topk"
CATS = {"tabby", "tiger cat", "Egyptian cat"}


class Kserve:
    """Both clients of the SDK, as one."""

    def __init__(self, server: Server, transport: str) -> None:
        self.over_rest = transport == "rest"
        self._url, self._address = server.url, server.grpc_address

    async def infer(self, asked: InferRequest) -> dict[str, np.ndarray]:
        if self.over_rest:
            async with InferenceRESTClient(RESTConfig(protocol="v2", timeout=60)) as client:
                answer = await client.infer(self._url, asked, model_name=asked.model_name)
        else:
            async with InferenceGRPCClient(self._address) as client:
                answer = await client.infer(asked)
            assert answer.model_version == "1"  # over REST the SDK drops it
        assert answer.model_name == asked.model_name
        assert answer.id == asked.id
        return {output.name: output.as_numpy() for output in answer.outputs}

    async def states(self, *models: str) -> list[bool]:
        """Live, ready, and whether each of the models is."""
        if self.over_rest:
            async with InferenceRESTClient(RESTConfig(protocol="v2")) as client:
                found = [
                    await client.is_server_live(self._url),
                    await client.is_server_ready(self._url),
                ]
                return found + [await client.is_model_ready(self._url, name) for name in models]
        async with InferenceGRPCClient(self._address) as client:
            found = [await client.is_server_live(), await client.is_server_ready()]
            return found + [await client.is_model_ready(name) for name in models]


@pytest.fixture(params=["rest", "grpc"])
def kserve(request: pytest.FixtureRequest, server: Server) -> Kserve:
    return Kserve(server, request.param)


def images(*pictures: bytes) -> InferInput:
    given = InferInput("image", [len(pictures)], "BYTES")
    given.set_data_from_numpy(np.array(pictures, dtype=object), binary_data=True)
    return given


def texts(labels: np.ndarray) -> list[str]:
    """The SDK gives text over REST, bytes over gRPC."""
    return [each.decode() if isinstance(each, bytes) else each for each in labels.ravel()]


async def test_server_and_models_are_live_and_ready(kserve: Kserve) -> None:
    assert await kserve.states(LITE, f"{LITE}.tensor", BEST) == [True] * 5


async def test_an_unknown_model_is_not_ready(kserve: Kserve) -> None:
    if kserve.over_rest:
        assert await kserve.states("nothing") == [True, True, False]
        return
    with pytest.raises(grpc.RpcError) as refused:
        await kserve.states("nothing")
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND


async def test_pictures_are_classified(kserve: Kserve, pictures: dict[str, bytes]) -> None:
    asked = images(*(pictures[name] for name in ("cat", "coffee", "flower")))
    answer = await kserve.infer(
        InferRequest(BEST, [asked], request_id="mine", parameters={"top_k": 2})
    )
    first, _, *others = texts(answer["labels"])
    assert first in CATS
    assert others[::2] == ["espresso", "daisy"]
    assert answer["scores"].shape == answer["indices"].shape == (3, 2)
    assert answer["indices"][1, 0] == 967
    assert answer["scores"].dtype == np.float32
    vectors = await kserve.infer(InferRequest(LITE, [asked], request_id="all"))
    assert list(vectors) == ["probabilities"]
    assert vectors["probabilities"].argmax(axis=1).tolist() == answer["indices"][:, 0].tolist()


async def test_crops_of_the_client_are_the_server_s(
    kserve: Kserve, pictures: dict[str, bytes]
) -> None:
    square = pictures["square"]
    whole = await kserve.infer(InferRequest(LITE, [images(square)], request_id="1"))
    pixels = InferInput("pixels", [1, 224, 224, 3], "UINT8")
    pixels.set_data_from_numpy(np.ascontiguousarray(crops.center(square)), binary_data=True)
    cut = await kserve.infer(InferRequest(f"{LITE}.tensor", [pixels], request_id="2"))
    np.testing.assert_allclose(cut["probabilities"], whole["probabilities"], rtol=0, atol=1e-6)


async def test_values_need_not_be_binary(kserve: Kserve, pictures: dict[str, bytes]) -> None:
    coffee = pictures["coffee"]
    data = base64.b64encode(coffee).decode() if kserve.over_rest else coffee
    asked = InferRequest(BEST, [InferInput("image", [1], "BYTES", [data])], request_id="1")
    assert texts((await kserve.infer(asked))["labels"])[0] == "espresso"

    seven = crops.pixels(pictures["seven"])[None, :, :, None]
    asked = InferInput("pixels", list(seven.shape), "UINT8", seven.ravel().tolist())
    answer = await kserve.infer(InferRequest("lenet5.tensor", [asked], request_id="2"))
    assert answer["probabilities"].argmax() == 7


async def test_only_the_outputs_that_were_asked_for_come(
    kserve: Kserve, pictures: dict[str, bytes]
) -> None:
    asked = InferRequest(
        BEST,
        [images(pictures["coffee"])],
        request_id="1",
        request_outputs=[RequestedOutput("labels")],
    )
    assert set(await kserve.infer(asked)) == {"labels"}


@pytest.mark.parametrize(
    ("model", "asked", "status", "code"),
    [
        ("nothing", images(b"text"), 404, "NOT_FOUND"),
        (LITE, images(b"text"), 415, "INVALID_ARGUMENT"),
        (LITE, InferInput("image", [1], "FP32", [1.0]), 400, "INVALID_ARGUMENT"),
        (f"{LITE}.tensor", InferInput("pixels", [2], "UINT8", [1, 2]), 400, "INVALID_ARGUMENT"),
    ],
)
async def test_what_cannot_be_answered_says_why(
    kserve: Kserve, model: str, asked: InferInput, status: int, code: str
) -> None:
    request = InferRequest(model, [asked], request_id="1")
    if kserve.over_rest:
        with pytest.raises(httpx.HTTPStatusError) as failed:
            await kserve.infer(request)
        assert failed.value.response.status_code == status
        assert failed.value.response.json()["error"]
    else:
        with pytest.raises(grpc.RpcError) as refused:
            await kserve.infer(request)
        assert refused.value.code() is grpc.StatusCode[code]
        assert refused.value.details()
