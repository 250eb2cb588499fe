"""How long a finished answer is held while more of them come."""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import Any

import pytest

from service.dataplane import completions
from service.dataplane.completions import LONG, Handover

THREADS = 100


async def test_a_trickle_of_results_does_not_hold_the_first_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(completions, "HOLD_S", 0.1)
    loop = asyncio.get_running_loop()
    handover = Handover(THREADS)
    for picture in range(LONG * THREADS + 50):
        handover.expect(picture)
    futures: list[asyncio.Future[Any]] = []
    for number in range(12):  # fewer than are handed over at once, each within the hold
        futures.append(loop.create_future())
        handover.put(futures[-1], number, None, perf_counter() + 60)
        await asyncio.sleep(0.07)
    assert futures[0].done()
    assert futures[0].result() == 0
