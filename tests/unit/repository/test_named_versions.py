"""A load that names versions is done when each of them is loaded, not when one answers."""

from __future__ import annotations

from pathlib import Path
from time import perf_counter

import pytest

from loadtests.harness import marked
from service.errors import NotReady
from tests.harness.planes import ask, started, until


async def test_a_version_that_was_refused_fails_the_load_that_names_it(tmp_path: Path) -> None:
    folder = tmp_path / "models"
    marked.add(folder, "default", 1)
    marked.add(folder, "net", 1, broken=True)
    for version in (2, 3):
        marked.add(folder, "net", version)
    async with started(folder, management=True, state=tmp_path / "state") as plane:
        with pytest.raises(NotReady, match=r"version 1 was refused: .*SHA-256"):
            await plane.load("net", "1,2", perf_counter() + 60)
        # what was asked for before is asked for again, and followed a moment later
        await until(lambda: plane.catalog.model("net").version == "3")
        await plane.load("net", "2", perf_counter() + 60)
        assert (await ask(plane, "net")).version == "2"
        await plane.load("net", "all", perf_counter() + 60)  # names none: the newest is enough
        assert (await ask(plane, "net")).version == "3"
