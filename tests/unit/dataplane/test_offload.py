"""Large requests and answers are read and written beside the event loop, which goes on."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

import httpx
import numpy as np
import pytest

from service.config.settings import Settings
from service.dataplane.dataplane import DataPlane
from service.dataplane.offload import Offload
from service.errors import BadParameter, DeadlineExceeded
from service.transports.grpc.inference import Inference
from service.transports.grpc.stream import Streams
from service.transports.http.app import create_app
from service.transports.http.oip_body import MOST_MEMBERS, parse
from service.transports.oip.inference import Request, Response, infer
from service.transports.oip.parameters import RequestedOutput
from service.transports.oip.tensors import LONG_VALUES, MOST_VALUES, Tensor
from tests.harness.copies import copy_of
from tests.harness.oip_client import elements as elements_of

CROP = 32 * 32
MANY = LONG_VALUES // 10 + 1
"""Crops whose answer, ten classes each, is long to write."""


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[DataPlane]:
    copy_of("lenet5", tmp_path, "digits")
    plane = DataPlane(Settings(models=tmp_path, default_model="digits", threads=2))
    await plane.start()
    yield plane
    await plane.stop()


@pytest.fixture
def offload() -> Iterator[Offload]:
    offload = Offload()
    yield offload
    offload.close()


def used(plane: DataPlane) -> bool:
    """Whether anything was done beside the loop."""
    return bool(plane.offload._thread._threads)


def crops(count: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, 32, 32, 1), np.uint8)


async def post(plane: DataPlane, body: dict[str, Any]) -> dict[str, Any]:
    transport = httpx.ASGITransport(create_app(plane))
    async with httpx.AsyncClient(transport=transport, base_url="http://zoo") as client:
        reply = await client.post("/v2/models/digits.tensor/infer", json=body)
    assert reply.status_code == 200, reply.text
    answer: dict[str, Any] = reply.json()
    return answer


async def test_the_loop_goes_on_meanwhile(offload: Offload) -> None:
    begun, may_end = threading.Event(), threading.Event()

    def work() -> bool:
        begun.set()
        return may_end.wait(60)

    running = asyncio.ensure_future(offload.run(work, perf_counter() + 60))
    await asyncio.to_thread(begun.wait, 60)
    assert not running.done()
    next_one = asyncio.ensure_future(offload.run(lambda: parse(b"{"), perf_counter() + 60))
    may_end.set()
    assert await running
    with pytest.raises(BadParameter):
        await next_one


async def test_what_is_late_does_not_begin(offload: Offload) -> None:
    with pytest.raises(DeadlineExceeded):
        await offload.run(lambda: pytest.fail("it began"), perf_counter())


async def test_a_large_request_is_read_beside_the_loop(plane: DataPlane) -> None:
    def body(count: int) -> dict[str, Any]:
        values = crops(count)
        tensor = {"name": "pixels", "datatype": "UINT8", "shape": values.shape}
        return {"inputs": [{**tensor, "data": values.ravel().tolist()}]}

    await post(plane, body(3))
    assert not used(plane)
    many = await post(plane, body(5))
    assert used(plane)
    assert many["outputs"][0]["shape"] == [5, 10]


@pytest.mark.parametrize("binary", [True, False], ids=["classes", "values"])
async def test_a_large_answer_is_written_beside_the_loop(plane: DataPlane, binary: bool) -> None:
    wanted = [RequestedOutput("logits", 10 if binary else None, binary)]

    async def ask(pixels: np.ndarray) -> list[Any]:
        given = Tensor("pixels", "UINT8", pixels.shape, pixels)
        request = Request("digits.tensor", None, inputs=[given], outputs=wanted)
        answer = await infer(plane, request, transport="grpc", deadline=perf_counter() + 60)
        return list(answer.outputs[0].data)

    pixels = crops(MANY)
    few = [value for crop in pixels[:20] for value in await ask(crop[None])]
    assert not used(plane)
    many = await ask(pixels)
    assert used(plane) is binary
    if binary:
        assert many[: 20 * 10] == few
    else:
        np.testing.assert_allclose(many[:20], few, atol=1e-4)


async def test_a_large_answer_in_json(plane: DataPlane) -> None:
    pixels = crops(MANY)
    transport = httpx.ASGITransport(create_app(plane))
    async with httpx.AsyncClient(transport=transport, base_url="http://zoo") as client:
        head = {"Inference-Header-Content-Length": "0"}
        for part, offload in ((pixels[:20], False), (pixels, True)):
            reply = await client.post(
                "/v2/models/digits.tensor/infer", content=part.tobytes(), headers=head
            )
            assert used(plane) is offload
            outputs = {one["name"]: one for one in json.loads(reply.content)["outputs"]}
            assert outputs["probabilities"]["shape"] == [len(part), 10]
            sums = np.array(outputs["probabilities"]["data"]).reshape(-1, 10).sum(axis=1)
            np.testing.assert_allclose(sums, 1, atol=1e-5)


async def test_a_large_answer_over_grpc(plane: DataPlane) -> None:
    elements = [b"a label"] * (LONG_VALUES + 1)
    texts = Tensor("labels", "BYTES", (len(elements),), elements)
    skin = Inference(plane, Streams(plane.bodies, lambda code: None))
    for tensor, offload in ((Tensor("labels", "BYTES", (1,), elements[:1]), False), (texts, True)):
        response = Response("digits", "1", "", [tensor], [True], False)
        message = await skin._message(response, perf_counter() + 60)
        assert elements_of(message.raw_output_contents[0]) == tensor.data
        assert used(plane) is offload


NEST = b"[" * 50 + b"]" * 50


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"[" + b",".join([b"0"] * (MOST_VALUES + 2)) + b"]", "more than 1000000 values"),
        (b"[" + b",".join([NEST] * (MOST_VALUES // 50)) + b"]", "more than 1000000 values"),
        (
            b"{" + b",".join(b'"%d":0' % i for i in range(MOST_MEMBERS + 1)) + b"}",
            "more than 10000 members",
        ),
        (b"[" + b"9" * 20 + b"]", "more than 19 digits"),
    ],
    ids=["values", "nested", "members", "digits"],
)
def test_json_that_would_be_long_to_read_is_refused_unread(text: bytes, words: str) -> None:
    with pytest.raises(BadParameter, match=words):
        parse(text)


def test_json_at_the_limits_is_read() -> None:
    values = parse(b"[" + b",".join([b"[7]"] * (MOST_VALUES - 1)) + b"]")
    assert isinstance(values, list)
    assert len(values) == MOST_VALUES - 1
    members = parse(b"{" + b",".join(b'"%d":0' % i for i in range(MOST_MEMBERS)) + b"}")
    assert isinstance(members, dict)
    assert len(members) == MOST_MEMBERS
    assert parse(b"[-9223372036854775807, 1.5e3]") == [-(2**63 - 1), 1500.0]
