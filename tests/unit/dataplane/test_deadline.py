"""A client may shorten the time that a request has, and never lengthen it."""

from __future__ import annotations

import math
from time import perf_counter

import pytest

from service.config.settings import Settings
from service.dataplane.dataplane import DataPlane


@pytest.mark.parametrize(
    ("seconds", "has"), [(math.inf, 0.5), (60.0, 0.5), (0.5, 0.5), (0.2, 0.2), (0.001, 0.001)]
)
async def test_the_time_that_a_request_asks_for(seconds: float, has: float) -> None:
    plane = DataPlane(Settings(deadline_ms=500))
    before = perf_counter()
    deadline = plane.deadline(seconds)
    assert before + has <= deadline <= perf_counter() + has


async def test_the_end_of_a_call() -> None:
    plane = DataPlane(Settings(deadline_ms=500))
    before = perf_counter()
    for late in (math.inf, before + 60):
        assert before + 0.5 <= plane.deadline(last=late) <= perf_counter() + 0.5
    assert plane.deadline(last=before + 0.1) == before + 0.1
    assert plane.deadline(0.01, last=before + 0.1) <= perf_counter() + 0.01
