"""Messages that arrive slowly: few may, and one that has come leaves its place to another."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from service.engine.deadlines import Deadlines
from service.errors import BodyTooLarge, DeadlineExceeded, Overloaded
from service.transports.grpc import arrivals
from service.transports.grpc.arrivals import Arrivals

MOST = 2


class Call:
    """A call whose message comes when it is told to."""

    def __init__(self) -> None:
        self.message: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def read(self) -> bytes:
        return await self.message


@pytest.fixture(autouse=True)
def slow_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A message is slow at once, and has a minute."""
    monkeypatch.setattr(arrivals, "SLOW", 0.0)


def reading(reader: Arrivals, call: Any, limit: int = 10) -> asyncio.Future[bytes]:
    return asyncio.ensure_future(reader.read(call, limit))


async def slow(reader: Arrivals, count: int) -> None:
    while len(reader._slow) != count:  # noqa: ASYNC110
        await asyncio.sleep(0.01)


async def test_what_has_come_leaves_its_place() -> None:
    reader = Arrivals(60, MOST, Deadlines())
    for _ in range(3):
        calls = [Call() for _ in range(MOST)]
        waiting = [reading(reader, call) for call in calls]
        await slow(reader, MOST)
        with pytest.raises(Overloaded, match="2 messages are arriving slowly"):
            await reading(reader, Call())
        for call in calls:
            call.message.set_result(b"whole")
        assert await asyncio.gather(*waiting) == [b"whole"] * MOST
    left = reading(reader, Call())
    await slow(reader, 1)
    left.cancel()
    await asyncio.wait({left})
    await slow(reader, 0)


async def test_who_takes_too_long_is_told_so() -> None:
    reader = Arrivals(0.1, MOST, Deadlines())
    with pytest.raises(DeadlineExceeded, match=r"did not arrive within 0\.1 s"):
        await asyncio.wait_for(reading(reader, Call()), 40)
    await slow(reader, 0)


@pytest.mark.parametrize(("size", "fits"), [(9, True), (10, True), (11, False)])
async def test_a_message_may_have_as_many_bytes_as_the_limit(size: int, fits: bool) -> None:
    call = Call()
    call.message.set_result(bytes(size))
    reader = Arrivals(60, MOST, Deadlines())
    if fits:
        assert len(await reading(reader, call)) == size
    else:
        with pytest.raises(BodyTooLarge, match="11 bytes, the limit is 10"):
            await reading(reader, call)
