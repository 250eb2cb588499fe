"""Streams of gRPC, and calls that are left."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from service.dataplane.body_budget import BodyBudget
from service.transports.grpc.arrivals import Requests
from service.transports.grpc.methods import _write
from service.transports.grpc.stream import Streams
from tests.harness.grpc_client import (
    SECONDS,
)


class Dripping(Requests[int]):
    """A request every 20 ms, for ever."""

    def __init__(self) -> None:
        self.size = 0

    async def __anext__(self) -> int:
        await asyncio.sleep(0.02)
        return 1


async def echo(asked: int, _patience: object) -> int:
    return asked


def test_an_answer_that_is_not_taken_is_not_forgiven_for_further_requests() -> None:
    async def blocked() -> float:
        streams = Streams(BodyBudget(1000), lambda _code: None, window=1000, idle_s=0.2)
        loop = asyncio.get_running_loop()
        began = loop.time()

        async def write() -> None:
            async for _ in streams.answers(Dripping(), echo, lambda asked, _error: asked):
                await asyncio.sleep(SECONDS)  # as a write does for which there is no room

        with pytest.raises(asyncio.CancelledError):
            await asyncio.create_task(write())
        return loop.time() - began

    assert asyncio.run(blocked()) < SECONDS / 2


def test_an_answer_to_a_client_that_has_gone_is_no_failure() -> None:
    class Gone:
        async def write(self, _message: bytes) -> None:
            raise RuntimeError("of grpcio's own family")

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(_write(cast(Any, Gone()), b""))
