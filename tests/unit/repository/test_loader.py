"""Models load when they are used, once for all who wait, and leave when memory is short."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from service.config.settings import Settings
from service.dataplane.dataplane import DataPlane
from service.dataplane.query import Query
from service.dataplane.results import Classification
from service.errors import (
    BadParameter,
    DeadlineExceeded,
    NotReady,
    Overloaded,
    UnknownModel,
    ZooError,
)
from service.manifest import Member
from service.repository import versions_on_disk
from service.repository.ensemble import Ensemble
from service.telemetry.metrics import MODEL_EVICTIONS, MODEL_LOADS, MODEL_READY
from tests.harness.copies import copy_of, ensemble
from tests.harness.edited_versions import garble_onnx, resign
from tests.photographs import COFFEE

ROOM_FOR_TWO, ROOM_FOR_THREE = 4, 5
"""ZOO_MODEL_MEMORY_MB for so many copies of LeNet-5 at 1.6 MB."""
PICTURE = COFFEE.read_bytes()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five copies of LeNet-5: the default, a, b, c, d."""
    for name in ("default", "a", "b", "c", "d"):
        copy_of("lenet5", tmp_path / "models", name)
    return tmp_path / "models"


@asynccontextmanager
async def started(folder: Path, **settings: Any) -> AsyncIterator[DataPlane]:
    given = {"load": "used", "default_model": "default", "threads": 2, **settings}
    plane = DataPlane(Settings(models=folder, **given))
    await plane.start()
    try:
        yield plane
    finally:
        await plane.stop()


async def ask(plane: DataPlane, model: str | None = None, **query: Any) -> Classification:
    deadline = query.pop("deadline", math.inf)
    (answer,) = await plane.classify(
        [PICTURE], Query(model, **query), transport="test", deadline=min(deadline, 1e9)
    )
    assert isinstance(answer, Classification), answer
    return answer


def states(plane: DataPlane) -> dict[str, str]:
    """The state of each model's newest version."""
    return {m.name: getattr(m, "state", "refused") for m in plane.catalog.models()}


def ready(plane: DataPlane) -> set[str]:
    return {name for name, state in states(plane).items() if state == "ready"}


def loads(model: str, result: str = "ok") -> float:
    return MODEL_LOADS.labels(model, result)._value.get()


async def until(condition: Callable[[], bool]) -> None:
    end = perf_counter() + 60
    while not condition():
        assert perf_counter() < end
        await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("load", "at_start"),
    [("all", "default a b c d"), ("used", "default"), ("c,a", "default a c"), ("b", "default b")],
)
async def test_what_is_loaded_at_start(folder: Path, load: str, at_start: str) -> None:
    async with started(folder, load=load) as plane:
        assert ready(plane) == set(at_start.split())
        assert plane.ready
        for name, state in states(plane).items():
            assert MODEL_READY.labels(name, "1")._value.get() == (state == "ready")
        assert (await ask(plane, "d")).model == "d"
        assert "d" in ready(plane)


async def test_a_hundred_first_requests_load_a_model_once(folder: Path) -> None:
    before = loads("a")
    async with started(folder) as plane:
        answers = await asyncio.gather(*(ask(plane, "a") for _ in range(100)))
        assert len({answer.predictions[0].index for answer in answers}) == 1
        assert loads("a") == before + 1
        assert ready(plane) == {"default", "a"}


async def test_the_deadline_passes_while_it_loads_and_the_load_goes_on(folder: Path) -> None:
    copy_of("efficientnet_lite0", folder, "large")
    async with started(folder) as plane:
        with pytest.raises(DeadlineExceeded, match="being loaded"):
            await ask(plane, "large", deadline=perf_counter() + 0.001)
        assert states(plane)["large"] == "loading"
        assert (await ask(plane)).model == "default"  # which goes on meanwhile
        await until(lambda: states(plane)["large"] == "ready")


async def test_a_client_that_leaves_does_not_break_the_load(folder: Path) -> None:
    async with started(folder) as plane:
        leaving = [asyncio.ensure_future(ask(plane, "a")) for _ in range(3)]
        staying = asyncio.ensure_future(ask(plane, "a"))
        await asyncio.sleep(0)
        for request in leaving:
            request.cancel()
        assert (await staying).model == "a"
        assert all(request.cancelled() for request in leaving)
        assert plane.admission.in_use == 0


async def test_a_load_that_nobody_waits_for_is_finished(folder: Path) -> None:
    async with started(folder) as plane:
        request = asyncio.ensure_future(ask(plane, "a"))
        await asyncio.sleep(0)
        request.cancel()
        await until(lambda: states(plane)["a"] == "ready")


async def test_it_stops_while_models_load(folder: Path) -> None:
    async with started(folder) as plane:
        requests = [asyncio.ensure_future(ask(plane, name)) for name in "abcd"]
        await asyncio.sleep(0)
    for answer in await asyncio.gather(*requests, return_exceptions=True):
        assert isinstance(answer, Classification | NotReady | RuntimeError)


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ({"model": "a", "protocol": "crops_144"}, BadParameter),
        ({"model": "a", "top_k": 11}, BadParameter),
        ({"model": "a", "version": "2"}, UnknownModel),
        ({"model": "e"}, UnknownModel),
    ],
)
async def test_what_can_be_refused_is_refused_before_it_loads(
    folder: Path, query: dict, error: type[ZooError]
) -> None:
    async with started(folder) as plane:
        with pytest.raises(error):
            await ask(plane, **query)
        assert ready(plane) == {"default"}
        assert "loading" not in states(plane).values()


async def test_who_waits_for_a_load_is_admitted_first(folder: Path) -> None:
    async with started(folder, queue_crops=4) as plane:
        work = (ask(plane, "a") for _ in range(10))
        answers = await asyncio.gather(*work, return_exceptions=True)
        assert [type(answer) for answer in answers] == [Classification] * 4 + [Overloaded] * 6


async def test_who_waits_for_a_load_does_not_make_the_others_wait(folder: Path) -> None:
    copy_of("efficientnet_lite0", folder, "large")
    async with started(folder) as plane:
        waiting = [asyncio.ensure_future(ask(plane, "large")) for _ in range(50)]
        while states(plane)["large"] != "ready":
            await ask(plane, deadline=perf_counter() + 60)
        assert len(await asyncio.gather(*waiting)) == 50


async def test_the_least_recently_used_goes_first(folder: Path) -> None:
    before = MODEL_EVICTIONS.labels("b")._value.get()
    async with started(folder, model_memory_mb=ROOM_FOR_THREE) as plane:
        for name in ("a", "b", "a", "c"):
            await ask(plane, name)
        assert ready(plane) == {"default", "a", "c"}
        assert MODEL_EVICTIONS.labels("b")._value.get() == before + 1
        assert MODEL_READY.labels("b", "1")._value.get() == 0
        await ask(plane, "b")
        assert ready(plane) == {"default", "b", "c"}


async def test_what_is_in_use_stays(folder: Path) -> None:
    async with started(folder, model_memory_mb=ROOM_FOR_TWO) as plane:
        async with plane.catalog.use(plane.catalog.model("a"), math.inf):
            with pytest.raises(NotReady, match="try again when those are idle") as refused:
                await ask(plane, "b")
            assert refused.value.retry_after == 1
            assert ready(plane) == {"default", "a"}
            assert (await ask(plane, "a")).model == "a"
        await ask(plane, "b")
        assert ready(plane) == {"default", "b"}


async def test_what_can_never_fit_unloads_nothing(folder: Path) -> None:
    copy_of("efficientnet_lite0", folder, "large")
    async with started(folder, model_memory_mb=ROOM_FOR_THREE) as plane:
        await ask(plane, "a")
        with pytest.raises(NotReady, match="ZOO_MODEL_MEMORY_MB=5; raise it") as refused:
            await ask(plane, "large")
        assert refused.value.retry_after is None
        assert ready(plane) == {"default", "a"}
        assert states(plane)["large"] == "unloaded"


@pytest.mark.parametrize("load", ["all", "d,c,a"])
async def test_nothing_is_unloaded_for_another_at_start(folder: Path, load: str) -> None:
    async with started(folder, load=load, model_memory_mb=ROOM_FOR_THREE) as plane:
        assert len(ready(plane)) == 3
        for name in "abcd":
            await ask(plane, name)
        assert len(ready(plane)) == 3


async def test_the_default_model_is_loaded_whatever_the_limit(folder: Path) -> None:
    async with started(folder, load="all", model_memory_mb=1) as plane:
        assert ready(plane) == {"default"}
        with pytest.raises(NotReady):
            await ask(plane, "a")
        await ask(plane)


async def test_what_cannot_be_read_now_is_tried_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with started(folder) as plane:
        with monkeypatch.context() as patch:
            patch.setattr(versions_on_disk, "check_files", _too_many_open_files)
            with pytest.raises(NotReady, match="Too many open files") as failed:
                await ask(plane, "a")
        assert failed.value.retry_after == 1
        assert states(plane)["a"] == "unloaded"
        assert (await ask(plane, "a")).model == "a"


def _too_many_open_files(*_: object) -> None:
    raise OSError(24, "Too many open files")


async def test_a_broken_newest_version_gives_way_to_an_older_one(folder: Path) -> None:
    for version in ("2", "3"):
        garble_onnx(copy_of("lenet5", folder, "a", version))
    garble_onnx(copy_of("lenet5", folder, "broken"))
    async with started(folder) as plane:
        answers = await asyncio.gather(*(ask(plane, "a") for _ in range(10)))
        assert {answer.version for answer in answers} == {"1"}
        for query in ({"model": "a", "version": "3"}, {"model": "broken"}, {"model": "broken"}):
            with pytest.raises(NotReady, match=r"was refused: model\.onnx has SHA-256"):
                await ask(plane, **query)
        assert loads("broken", "refused") == 1
        assert states(plane)["broken"] == "refused"


async def test_an_older_default_is_loaded_where_the_newest_is_broken(folder: Path) -> None:
    garble_onnx(copy_of("lenet5", folder, "default", "2"))
    async with started(folder) as plane:
        assert plane.ready
        assert (await ask(plane)).version == "1"


def pair(folder: Path, name: str, *members: str) -> None:
    ensemble(folder, name, *(Member(model=member) for member in members), classes=10)


async def test_an_ensemble_loads_and_loses_its_members(folder: Path) -> None:
    pair(folder, "pair", "a", "b")
    async with started(folder, model_memory_mb=ROOM_FOR_THREE) as plane:
        assert states(plane)["pair"] == "unloaded"
        assert (await ask(plane, "pair")).protocol == "ensemble"
        assert ready(plane) == {"default", "a", "b", "pair"}
        await ask(plane, "b")
        await ask(plane, "c")  # takes the place of a
        assert ready(plane) == {"default", "b", "c"}
        assert MODEL_READY.labels("pair", "1")._value.get() == 0
        answers = await asyncio.gather(*(ask(plane, "pair") for _ in range(10)))
        assert len(answers) == 10
        assert ready(plane) == {"default", "a", "b", "pair"}


async def test_an_ensemble_is_ready_by_its_members_alone(folder: Path) -> None:
    pair(folder, "pair", "a", "b")
    async with started(folder) as plane:
        await ask(plane, "a")
        assert states(plane)["pair"] == "unloaded"
        await ask(plane, "b")
        assert states(plane)["pair"] == "ready"


async def test_members_in_use_by_their_ensemble_stay(folder: Path) -> None:
    pair(folder, "pair", "a", "b")
    async with started(folder, model_memory_mb=ROOM_FOR_THREE) as plane:
        async with plane.catalog.use(plane.catalog.model("pair"), math.inf):
            with pytest.raises(NotReady, match="in use"):
                await ask(plane, "c")
        await ask(plane, "c")


async def test_an_ensemble_too_large_unloads_nothing(folder: Path) -> None:
    pair(folder, "pair", "a", "b")
    async with started(folder, model_memory_mb=ROOM_FOR_TWO) as plane:
        await ask(plane, "c")
        with pytest.raises(NotReady, match="loading a, b takes about 3 MB"):
            await ask(plane, "pair")
        assert ready(plane) == {"default", "c"}


async def test_a_default_ensemble_is_kept_with_its_members(folder: Path) -> None:
    pair(folder, "pair", "a", "b")
    settings = {"default_model": "pair", "model_memory_mb": ROOM_FOR_THREE}
    async with started(folder, **settings) as plane:
        for name in ("c", "d", "default"):
            await ask(plane, name)
            assert ready(plane) == {"pair", "a", "b", name}


async def test_an_ensemble_follows_what_becomes_of_its_members(folder: Path) -> None:
    garble_onnx(copy_of("lenet5", folder, "a", "2"))
    garble_onnx(copy_of("lenet5", folder, "broken"))
    other = copy_of("lenet5", folder, "other")
    labels = (other / "labels.csv").read_text().replace("9,,9", "9,,nine")
    (other / "labels.csv").write_text(labels)
    resign(other, "labels.csv")
    pair(folder, "older", "a", "b")
    pair(folder, "unable", "b", "broken")
    pair(folder, "unlike", "b", "other")
    async with started(folder) as plane:
        await ask(plane, "older")
        (older,) = (m for m in plane.catalog.models() if m.name == "older")
        assert isinstance(older, Ensemble)
        assert [network.version for network in older.networks] == ["1", "1"]
        for name, words in (("unable", "broken cannot be used"), ("unlike", "labels of other")):
            with pytest.raises(NotReady, match=words):
                await ask(plane, name)
            assert states(plane)[name] == "refused"


async def test_an_ensemble_whose_other_members_are_loaded_is_ready(folder: Path) -> None:
    garble_onnx(copy_of("lenet5", folder, "a", "2"))
    pair(folder, "pair", "a", "b")
    async with started(folder) as plane:
        await ask(plane, "a", version="1")
        await ask(plane, "b")
        assert states(plane)["pair"] == "unloaded"  # of which a version 2 would be a member
        assert (await ask(plane, "a")).version == "1"
        assert states(plane)["pair"] == "ready"
        await ask(plane, "pair")


@pytest.mark.long
@hypothesis_settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(rounds=st.lists(st.lists(st.sampled_from(["a", "b", "c", "d", "pair"]), max_size=8)))
def test_any_requests_are_answered_within_the_limit(folder: Path, rounds: list) -> None:
    if not (folder / "pair").exists():
        pair(folder, "pair", "a", "b")

    async def check() -> None:
        async with started(folder, model_memory_mb=ROOM_FOR_THREE) as plane:
            for names in rounds:
                work = (ask(plane, name) for name in names)
                for answer in await asyncio.gather(*work, return_exceptions=True):
                    full = isinstance(answer, NotReady) and answer.retry_after == 1
                    assert full or isinstance(answer, Classification)
                assert "default" in ready(plane)
                assert len(ready(plane) - {"pair"}) <= 3
                assert ("pair" in ready(plane)) == ({"a", "b"} <= ready(plane))
                assert plane.admission.in_use == 0
            for name in ("a", "pair"):  # nothing is held any more
                await ask(plane, name)

    asyncio.run(check())


async def test_a_request_that_is_late_already_loads_nothing(folder: Path) -> None:
    async with started(folder) as plane:
        with pytest.raises(DeadlineExceeded):
            await ask(plane, "a", deadline=perf_counter() - 0.001)
        assert states(plane)["a"] == "unloaded"
        await ask(plane, "a")


async def test_who_leaves_while_the_models_load_is_not_ready_when_they_are(folder: Path) -> None:
    plane = DataPlane(Settings(models=folder, load="used", default_model="default", threads=2))
    plane.leave()
    await plane.start()
    assert not plane.ready
    await plane.stop()
