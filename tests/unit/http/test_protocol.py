"""HTTP/1.1 on the wire: limits of heads and frames, pipelining, joined writes."""

from __future__ import annotations

import asyncio

import pytest

from service.transports.http.interrupt import Interrupt, InterruptedByError


async def test_an_interrupt_ends_what_its_block_awaits_and_nothing_else() -> None:
    interrupt = Interrupt()

    async def interrupted() -> None:
        with interrupt:
            asyncio.get_running_loop().call_soon(interrupt.trip)
            await asyncio.sleep(10)

    with pytest.raises(InterruptedByError):
        await interrupted()
    interrupt.trip()
    await asyncio.sleep(0)  # nothing is cancelled any more

    async def outer() -> None:
        with Interrupt():
            await asyncio.sleep(10)

    task = asyncio.ensure_future(outer())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
