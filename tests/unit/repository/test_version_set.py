"""Versions come, change and go while requests are answered: never by half a version, never not."""

from __future__ import annotations

import asyncio
import math
import os
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from time import perf_counter
from types import SimpleNamespace
from typing import Any

import pytest

from loadtests.harness import marked
from service.config.settings import Settings
from service.dataplane.dataplane import DataPlane
from service.dataplane.query import Query
from service.dataplane.results import Classification
from service.errors import NotReady, UnknownModel
from service.manifest import Member
from service.repository import watcher as watching
from service.repository.watcher import Watcher
from service.telemetry import exporter
from service.telemetry.metrics import MODEL_LOADS, MODEL_SWAPS
from tests.harness.copies import ensemble
from tests.harness.edited_versions import edit, resign
from tests.photographs import COFFEE

PICTURE = COFFEE.read_bytes()
LOOK_SECONDS = 0.02


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two models: the default with version 1, and net with version 1."""
    for name in ("default", "net"):
        marked.add(tmp_path / "models", name, 1)
    return tmp_path / "models"


@asynccontextmanager
async def started(folder: Path, **settings: object) -> AsyncIterator[DataPlane]:
    common = {"default_model": "default", "threads": 2, "watch_seconds": LOOK_SECONDS}
    plane = DataPlane(Settings(models=folder, **{**common, **settings}))
    await plane.start()
    try:
        yield plane
    finally:
        await plane.stop()


async def ask(plane: DataPlane, model: str = "net", version: str | None = None) -> Classification:
    query = Query(model, version, top_k=10)
    (answer,) = await plane.classify([PICTURE], query, transport="test", deadline=math.inf)
    assert isinstance(answer, Classification), answer
    return answer


async def version(plane: DataPlane, model: str = "net", named: str | None = None) -> int:
    """Which version answers; all of the answer must be of that one."""
    answer = await ask(plane, model, named)
    number = int(answer.version)
    assert answer.predictions[0].index == number % 10
    assert {p.label.name for p in answer.predictions} == {
        marked.label(i, number) for i in range(10)
    }
    return number


async def until(condition: Callable[[], bool]) -> None:
    end = perf_counter() + 30
    while not condition():
        assert perf_counter() < end
        await asyncio.sleep(0.01)


async def until_answers(plane: DataPlane, number: int, model: str = "net") -> None:
    end = perf_counter() + 30
    while await version(plane, model) != number:
        assert perf_counter() < end


async def looks(plane: DataPlane, count: int = 3) -> None:
    for _ in range(count):
        await plane._reconciler.look()


def states(plane: DataPlane, name: str = "net") -> dict[str, str]:
    return {m.version: getattr(m, "state", "refused") for m in plane.catalog.versions(name)}


def index(plane: DataPlane, name: str = "net") -> dict[str, tuple[str, str]]:
    return {e.version: e[2:] for e in plane.catalog.index() if e.name == name}


@pytest.mark.parametrize("load", ["all", "used", "net"])
@pytest.mark.parametrize("versions", ["all", "latest"])
async def test_a_new_version_takes_over_once_it_is_loaded(
    folder: Path, load: str, versions: str
) -> None:
    async with started(folder, load=load, versions=versions) as plane:
        assert await version(plane) == 1
        swaps = MODEL_SWAPS.labels("net")._value.get()
        marked.add(folder, "net", 2)
        await until_answers(plane, 2)
        await until(lambda: states(plane).get("1") != "ready" or versions == "all")
        assert states(plane) == {"2": "ready", **({"1": "ready"} if versions == "all" else {})}
        assert MODEL_SWAPS.labels("net")._value.get() == swaps + 1
        if versions == "all":
            assert await version(plane, named="1") == 1
        else:
            assert index(plane)["1"] == (
                "UNAVAILABLE",
                "left out: of this model latest:1 is served",
            )
            with pytest.raises(UnknownModel, match="no version '1' while its policy is latest:1"):
                await version(plane, named="1")


async def test_where_nothing_is_loaded_nothing_is_loaded_for_it(folder: Path) -> None:
    async with started(folder, load="used") as plane:
        marked.add(folder, "net", 2)
        await until(lambda: len(states(plane)) == 2)
        await looks(plane)
        assert states(plane) == {"1": "unloaded", "2": "unloaded"}
        assert await version(plane) == 2


async def test_a_new_model_appears_and_an_old_one_goes(folder: Path) -> None:
    async with started(folder) as plane:
        marked.add(folder, "other", 7)
        await until(lambda: "other" in plane.catalog)
        assert await version(plane, "other") == 7
        exposed = 'zoo_model_ready{model="other",version="7"} 1.0'
        await until(lambda: exposed in exporter.exposition(plane.model_metrics).decode())
        shutil.rmtree(folder / "other")
        await until(lambda: "other" not in plane.catalog)
        with pytest.raises(UnknownModel, match="there is no model 'other'"):
            await ask(plane, "other")
        assert 'model="other",version' not in exporter.exposition(plane.model_metrics).decode()
        marked.add(folder, "other", 7)
        await until(lambda: "other" in plane.catalog)
        assert await version(plane, "other") == 7


async def test_a_version_that_is_taken_away_is_rolled_back_without_a_gap(folder: Path) -> None:
    marked.add(folder, "net", 2)
    async with started(folder, versions="latest") as plane:
        assert await version(plane) == 2
        assert states(plane) == {"2": "ready"}
        marked.remove(folder, "net", 2)
        await until_answers(plane, 1)
        await until(lambda: states(plane) == {"1": "ready"})


async def test_a_broken_new_version_is_refused_and_the_old_one_serves(folder: Path) -> None:
    async with started(folder, versions="latest") as plane:
        path = marked.add(folder, "net", 2, broken=True)
        await until(lambda: states(plane).get("2") == "refused")
        assert await version(plane) == 1
        assert "SHA-256" in index(plane)["2"][1]
        assert index(plane)["1"] == ("READY", "")
        with pytest.raises(NotReady, match="was refused"):
            await ask(plane, "net", "2")
        shutil.rmtree(path)
        marked.add(folder, "net", 2)
        await until_answers(plane, 2)


async def test_a_version_that_is_being_copied_is_waited_for(folder: Path, tmp_path: Path) -> None:
    whole = marked.add(tmp_path / "elsewhere", "net", 2)
    async with started(folder, watch_seconds=0) as plane:
        half = folder / "net" / "2"
        half.mkdir()
        await looks(plane)
        assert "2" not in states(plane)  # nothing there yet
        shutil.copy(whole / "manifest.json", half)
        os.truncate(half / "manifest.json", 99)
        await looks(plane, 1)
        shutil.copy(whole / "manifest.json", half)
        await looks(plane, 1)
        for file in whole.iterdir():
            data = file.read_bytes()
            (half / file.name).write_bytes(data[: len(data) // 2])
            await looks(plane, 1)
            (half / file.name).write_bytes(data)
            assert "2" not in states(plane)
            assert await version(plane) == 1
        await looks(plane, 1)
        await until_answers(plane, 2)


async def test_what_stays_half_is_refused_with_the_reason(folder: Path) -> None:
    async with started(folder, watch_seconds=0) as plane:
        path = marked.add(folder, "net", 2)
        (path / "model.onnx").write_bytes(b"half")
        await looks(plane, 1)
        assert "2" not in states(plane)
        await looks(plane, 1)
        assert index(plane)["2"][0] == "UNAVAILABLE"
        assert "model.onnx has 4 bytes" in index(plane)["2"][1]
        assert await version(plane) == 1


async def test_a_change_of_the_same_version_is_loaded_beside_it(folder: Path) -> None:
    async with started(folder) as plane:
        labels = folder / "net" / "1" / "labels.csv"
        labels.write_text(labels.read_text().replace("1 of version 1", "one"))
        resign(folder / "net" / "1", "labels.csv")
        while (answer := await ask(plane)).predictions[0].label.name != "one":
            assert answer.predictions[0].label.name == "1 of version 1"
        edit(folder / "net" / "1", lambda manifest: manifest.update(classes=11))
        await until(lambda: "labels.csv" in index(plane)["1"][1])
        assert index(plane)["1"][0] == "READY"
        assert (await ask(plane)).predictions[0].label.name == "one"


async def test_a_request_that_chose_a_version_is_answered_by_it(folder: Path) -> None:
    async with started(folder, versions="latest") as plane:
        chosen = plane.catalog.model("net")
        async with plane.catalog.use(chosen, math.inf):
            marked.add(folder, "net", 2)
            await until_answers(plane, 2)
            await looks(plane)
            assert chosen.ready
        await until(lambda: not chosen.ready)


async def test_two_do_not_fit_into_memory(folder: Path) -> None:
    limit = {"model_memory_mb": 4, "load": "all", "versions": "latest"}  # for two of 1.6 MB
    async with started(folder, **limit) as plane:
        marked.add(folder, "default", 2)
        marked.add(folder, "net", 2)
        # net 1 is idle and makes room for the default model; net 2 waits for its first use
        await until_answers(plane, 2, "default")
        assert await version(plane) == 2
        marked.add(folder, "net", 3)
        await until(lambda: "ZOO_MODEL_MEMORY_MB" in index(plane).get("3", ("", ""))[1])
        assert await version(plane) == 2


async def test_the_default_model_goes_on_from_memory(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with started(folder) as plane:
        shutil.rmtree(folder / "default")
        await until(lambda: "goes on from memory" in caplog.text)
        await looks(plane)
        assert plane.ready
        assert await version(plane, "default") == 1
        assert caplog.text.count("goes on from memory") == 1
        marked.add(folder, "default", 2)
        await until_answers(plane, 2, "default")


async def test_the_default_model_that_comes_back_is_not_loaded_again(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """There is memory for one: it would be loaded beside itself."""
    async with started(folder, model_memory_mb=2, load="used") as plane:
        answers = plane.catalog.model("default")
        loads = MODEL_LOADS.labels("default", "ok")._value
        before = loads.get()
        away = (folder / "default").rename(folder.parent / "away")
        await until(lambda: "goes on from memory" in caplog.text)
        away.rename(folder / "default")
        await looks(plane)
        assert not plane.catalog.unfinished()
        assert plane.catalog.model("default") is answers
        assert await version(plane, "default") == 1
        assert loads.get() == before
        assert index(plane, "default") == {"1": ("READY", "")}


async def test_a_repository_that_cannot_be_read_changes_nothing(folder: Path) -> None:
    async with started(folder) as plane:
        away = folder.with_name("away")
        shutil.move(folder, away)
        await looks(plane)
        os.mkdir(folder)
        await looks(plane)
        assert await version(plane) == 1
        os.rmdir(folder)
        shutil.move(away, folder)
        marked.add(folder, "net", 2)
        await until_answers(plane, 2)


async def test_ensembles_follow_their_members(folder: Path) -> None:
    ensemble(folder, "pair", Member(model="net"), Member(model="default"), classes=10)
    async with started(folder, versions="latest") as plane:
        assert (await ask(plane, "pair")).predictions[0].label.name == marked.label(1, 1)
        marked.add(folder, "net", 2)
        await until(lambda: states(plane, "pair") == {"1": "refused"})
        with pytest.raises(NotReady, match="labels of default are not those of net"):
            await ask(plane, "pair")
        marked.add(folder, "default", 2)
        await until(lambda: states(plane, "pair") == {"1": "ready"})
        assert (await ask(plane, "pair")).predictions[0].label.name == marked.label(2, 2)
        shutil.rmtree(folder / "net")
        await until(lambda: states(plane, "pair") == {"1": "refused"})
        marked.add(folder, "net", 2)
        await until(lambda: states(plane, "pair") == {"1": "ready"})
        assert await version(plane, "default") == 2


async def test_a_default_ensemble_goes_on_with_the_members_it_has(folder: Path) -> None:
    marked.add(folder, "other", 1)
    ensemble(folder, "pair", Member(model="net"), Member(model="other"), classes=10)
    async with started(folder, versions="latest", default_model="pair") as plane:
        marked.add(folder, "net", 2)
        await until_answers(plane, 2)
        await looks(plane)
        assert plane.ready
        assert (await ask(plane, "pair")).predictions[0].label.name == marked.label(1, 1)
        marked.add(folder, "other", 2)
        await until(lambda: {n.version for n in plane.catalog.model("pair").networks} == {"2"})
        assert (await ask(plane, "pair")).predictions[0].label.name == marked.label(2, 2)


async def test_under_load_every_answer_is_whole(folder: Path) -> None:
    """Nothing but whole answers while versions come, break, go and come back."""
    async with started(folder, versions="latest", threads=1) as plane:
        over = asyncio.Event()
        seen = set()

        async def client() -> None:
            while not over.is_set():
                seen.add(await version(plane))

        clients = [asyncio.ensure_future(client()) for _ in range(4)]
        for number in range(2, 8):
            marked.add(folder, "net", number)
            await until(lambda number=number: states(plane) == {str(number): "ready"})
        marked.add(folder, "net", 8, broken=True)
        await until(lambda: states(plane).get("8") == "refused")
        for number in (7, 6, 8):
            marked.remove(folder, "net", number)
        await until(lambda: states(plane) == {"5": "ready"})
        over.set()
        await asyncio.gather(*clients)
        assert seen == {1, 2, 3, 4, 5, 6, 7}
        assert plane.admission.in_use == 0


def test_a_look_costs_little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two folders to list for each model, and no manifest is read that has not changed."""
    for number in range(100):
        marked.add(tmp_path, f"net{number}", 1)
    watch = Watcher(tmp_path)
    assert len(watch.look(patient=False).arrived) == 100
    listed = []

    def scandir(folder: str) -> Any:
        listed.append(folder)
        return os.scandir(folder)

    monkeypatch.setattr(watching, "os", SimpleNamespace(scandir=scandir))
    monkeypatch.setattr(Watcher, "_judge", None)
    assert watch.look() == watching.Changes()
    assert len(listed) == 1 + 2 * 100


def test_a_version_has_gone_when_two_looks_in_a_row_miss_it(folder: Path) -> None:
    """A network volume may show a folder one moment, and not the next."""
    watch = Watcher(folder)
    watch.look(patient=False)
    there, away = folder / "net" / "1", folder / "net" / "_1"
    for _ in range(2):
        there.rename(away)
        assert watch.look().gone == []
        away.rename(there)
        found = watch.look()
        assert (found.gone, found.arrived) == ([], [])
    there.rename(away)
    assert watch.look().gone == []
    assert [(each.name, each.version) for each in watch.look().gone] == [("net", "1")]
