"""tritonclient in an event loop, over both transports."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
import tritonclient.grpc.aio
import tritonclient.http.aio
from tritonclient.utils import InferenceServerException

from tests.clients.triton.conftest import Triton
from tests.server import Server

LITE = "efficientnet_lite0"
BEST = f"{LITE}.topk"


@pytest_asyncio.fixture
async def client(server: Server, triton: Triton) -> AsyncIterator[Any]:
    if triton.transport == "http":
        address = server.url.removeprefix("http://")
        opened = tritonclient.http.aio.InferenceServerClient(address)
    else:
        opened = tritonclient.grpc.aio.InferenceServerClient(server.grpc_address)
    async with opened:
        yield opened


async def test_the_server_describes_itself(client: Any) -> None:
    assert await client.is_server_live()
    assert await client.is_server_ready()
    assert await client.is_model_ready(f"{LITE}.tensor", "1")
    for ask in (client.get_server_metadata, client.get_inference_statistics):
        assert await ask()
    for ask in (client.get_model_metadata, client.get_model_config):
        assert await ask(LITE)


async def test_many_calls_at_once(client: Any, triton: Triton, pictures: dict[str, bytes]) -> None:
    names = ["coffee", "flower", "palace"] * 8
    answers = await asyncio.gather(
        *(
            client.infer(BEST, [triton.images(pictures[name])], parameters={"top_k": 1})
            for name in names
        )
    )
    labels = [answer.as_numpy("labels")[0, 0] for answer in answers]
    assert labels == [b"espresso", b"daisy", b"palace"] * 8


async def test_an_error_says_why(client: Any, triton: Triton) -> None:
    with pytest.raises(InferenceServerException, match="there is no model 'nothing'"):
        await client.infer("nothing", [triton.images(b"text")])
    with pytest.raises(InferenceServerException, match="picture 0"):
        await client.infer(LITE, [triton.images(b"text")])


async def test_a_stream(server: Server, over_grpc: Triton, pictures: dict[str, bytes]) -> None:
    async def requests() -> AsyncIterator[dict[str, Any]]:
        for name in ("coffee", "flower", "palace"):
            yield {
                "model_name": BEST,
                "inputs": [over_grpc.images(pictures[name])],
                "request_id": name,
            }
        yield {"model_name": "nothing", "inputs": [over_grpc.images(b"")], "request_id": "wrong"}

    found, errors = {}, []
    async with tritonclient.grpc.aio.InferenceServerClient(server.grpc_address) as client:
        async for result, error in client.stream_infer(requests()):
            if error is None:
                found[result.get_response().id] = result.as_numpy("labels")[0, 0]
            else:
                errors.append(error.message())
    assert found == {"coffee": b"espresso", "flower": b"daisy", "palace": b"palace"}
    assert [text.partition("]")[0] for text in errors] == ["[unknown_model"]
