"""The KServe SDK with a key and TLS, as the table of docs/clients.md says it."""

from __future__ import annotations

import ssl

import grpc
import httpx
import pytest
from kserve import InferenceGRPCClient, InferenceRESTClient, InferRequest, RESTConfig

from tests.clients.conftest import Guarded
from tests.clients.kserve.test_sdk import BEST, images, texts


async def test_rest(guarded: Guarded, pictures: dict[str, bytes]) -> None:
    context = ssl.create_default_context(cafile=str(guarded.ca))
    request = InferRequest(BEST, [images(pictures["coffee"])])
    url, header = guarded.server.url, {"authorization": f"Bearer {guarded.key}"}
    async with InferenceRESTClient(RESTConfig(protocol="v2", verify=context)) as client:
        assert await client.is_server_live(url)
        answer = await client.infer(url, request, model_name=BEST, headers=dict(header))
        assert texts(answer.outputs[2].as_numpy())[0] == "espresso"
        with pytest.raises(httpx.HTTPStatusError) as refused:
            await client.infer(url, request, model_name=BEST)
        assert refused.value.response.status_code == 401


async def test_grpc(guarded: Guarded, pictures: dict[str, bytes]) -> None:
    request = InferRequest(BEST, [images(pictures["coffee"])])
    async with InferenceGRPCClient(
        guarded.server.grpc_address, use_ssl=True, root_certificates=str(guarded.ca)
    ) as client:
        assert await client.is_server_live()
        header = [("authorization", f"Bearer {guarded.key}")]
        answer = await client.infer(request, headers=header)
        assert texts(answer.outputs[2].as_numpy())[0] == "espresso"
        with pytest.raises(grpc.RpcError) as refused:
            await client.infer(request)
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
