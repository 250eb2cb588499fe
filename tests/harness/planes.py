"""A data plane without a server, on versions of LeNet-5 that can be told apart."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

from service.config.settings import Settings
from service.dataplane.dataplane import DataPlane
from service.dataplane.query import Query
from service.dataplane.results import Classification
from service.engine.outputs import Outputs
from service.imaging.crops import Crops
from tests.photographs import COFFEE

PICTURE = COFFEE.read_bytes()


@asynccontextmanager
async def started(folder: Path, **settings: Any) -> AsyncIterator[DataPlane]:
    """The plane over the repository ``folder``, whose default model is called `default`."""
    given = {"default_model": "default", "threads": 1, "watch_seconds": 0, **settings}
    plane = DataPlane(Settings(models=folder, **given))
    await plane.start()
    try:
        yield plane
    finally:
        await plane.stop()


async def ask(plane: DataPlane, model: str = "default", top_k: int = 10) -> Classification:
    query = Query(model, top_k=top_k)
    (answer,) = await plane.classify([PICTURE], query, transport="test", deadline=math.inf)
    assert isinstance(answer, Classification), answer
    return answer


async def until(condition: Callable[[], bool], seconds: float = 30) -> None:
    end = perf_counter() + seconds
    while not condition():
        assert perf_counter() < end
        await asyncio.sleep(0.01)


async def slowed(plane: DataPlane, name: str, seconds: float) -> None:
    """Let the device of a model take so much longer for each batch."""
    batcher = (await plane.model(name, None)).single_network.model.batchers["model"]
    run = batcher._run

    def slow(crops: Crops) -> Outputs:
        time.sleep(seconds)
        return run(crops)

    batcher._run = slow
