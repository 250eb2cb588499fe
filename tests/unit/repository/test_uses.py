"""A request that fails lets go of its network: it can be unloaded afterwards."""

from __future__ import annotations

from pathlib import Path
from time import perf_counter

import numpy as np
import pytest

from loadtests.harness import marked
from service.dataplane.query import Query
from service.engine.outputs import Outputs
from service.errors import Internal
from service.imaging.crops import Crops
from tests.harness.planes import ask, started


async def test_a_network_whose_request_failed_can_be_unloaded(tmp_path: Path) -> None:
    folder = tmp_path / "models"
    for name in ("default", "net"):
        marked.add(folder, name, 1)
    async with started(folder, management=True, state=tmp_path / "state") as plane:
        network = (await plane.model("net", None)).single_network
        size = network.manifest.input
        crops = np.zeros((1, size.height, size.width, size.channels), np.uint8)

        def broken(crops: Crops) -> Outputs:
            raise RuntimeError("the device fell over")

        network.model.batchers["model"]._run = broken
        with pytest.raises(Internal):
            await plane.infer(crops, Query("net"), transport="test", deadline=perf_counter() + 30)
        await plane.unload("net", perf_counter() + 30)
        await plane.load("net", deadline=perf_counter() + 30)
        assert (await ask(plane, "net")).predictions[0].index == 1
