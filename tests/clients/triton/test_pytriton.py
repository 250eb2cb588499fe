"""PyTriton's ModelClient, which asks a model for its configuration and then sends what fits."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

import numpy as np
import pytest

from tests.capabilities import demand
from tests.clients.triton.test_both import CATS, LITE
from tests.server import Server


@pytest.fixture(scope="module")
def pytriton() -> ModuleType:
    demand("pytriton")
    return import_module("pytriton.client")


@pytest.fixture(params=["http", "grpc"])
def url(request: pytest.FixtureRequest, server: Server) -> str:
    address = {"http": server.url.removeprefix("http://"), "grpc": server.grpc_address}
    return f"{request.param}://{address[request.param]}"


@pytest.mark.filterwarnings("ignore")  # its own: of timeouts that gRPC does not know
def test_batches_and_samples(pytriton: ModuleType, url: str, pictures: dict[str, bytes]) -> None:
    sent = [pictures["cat"], pictures["coffee"]]
    with pytriton.ModelClient(url, LITE, init_timeout_s=60) as client:
        assert client.is_batching_supported
        for batch in (np.array(sent, object), np.array([[p] for p in sent], object)):
            answer = client.infer_batch(batch)
            assert list(answer) == ["probabilities"]
            assert answer["probabilities"].shape == (2, 1000)
            assert answer["probabilities"][1].argmax() == 967
        sample = client.infer_sample(np.array([pictures["coffee"]], object))
        assert sample["probabilities"].shape == (1000,)
    with pytriton.ModelClient(url, f"{LITE}.topk", init_timeout_s=60) as client:
        best = client.infer_batch(image=np.array(sent, object), parameters={"top_k": 2})
        assert best["labels"][0, 0] in CATS
        assert best["indices"].shape == best["scores"].shape == (2, 2)
    with pytriton.ModelClient(url, f"{LITE}.tensor", init_timeout_s=60) as client:
        crops = np.zeros((3, 224, 224, 3), np.uint8)
        assert client.infer_batch(pixels=crops)["probabilities"].shape == (3, 1000)
