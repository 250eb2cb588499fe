"""Which version answers while another one is being loaded."""

from __future__ import annotations

from pathlib import Path

from loadtests.harness import marked
from tests.harness.planes import ask, started, until


async def test_the_old_version_answers_until_the_new_one_is_loaded(tmp_path: Path) -> None:
    for name in ("default", "net"):
        marked.add(tmp_path, name, 1)
    async with started(tmp_path) as plane:
        marked.add(tmp_path, "net", 2)
        await plane._reconciler.look()  # its load has begun, and nothing has waited for it
        front = plane.catalog.model("net")
        assert (front.version, front.ready) == ("1", True)
        assert plane.catalog.model("net", "2").state in ("loading", "unloaded")
        await until(lambda: plane.catalog.model("net").version == "2")
        assert (await ask(plane, "net")).predictions[0].index == 2


async def test_where_none_is_loaded_the_newest_is(tmp_path: Path) -> None:
    for name in ("default", "net"):
        marked.add(tmp_path, name, 1)
    async with started(tmp_path, load="used") as plane:
        marked.add(tmp_path, "net", 2)
        await plane._reconciler.look()
        assert plane.catalog.model("net").version == "2"
        assert (await ask(plane, "net")).predictions[0].index == 2
        assert plane.catalog.model("net", "1").state == "unloaded"


async def test_the_service_is_ready_by_one_version_of_its_default_model(tmp_path: Path) -> None:
    for version in (1, 2):
        marked.add(tmp_path, "default", version)
    async with started(tmp_path, load="used") as plane:
        states = {one.version: one.state for one in plane.catalog.versions("default")}
        assert states == {"1": "unloaded", "2": "ready"}
        assert plane.ready
