"""Operators load and unload models: all workers that share the state follow."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest

from loadtests.harness import marked
from service.config.settings import Settings
from service.dataplane.dataplane import DataPlane
from service.errors import (
    BadParameter,
    DeadlineExceeded,
    ManagementClosed,
    NotReady,
    UnknownModel,
    ZooError,
)
from service.manifest import Member
from service.repository.desired_state import DesiredState, Reached
from tests.harness.copies import ensemble
from tests.unit.repository.test_version_set import ask, index, states, until, version


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("default", "net"):
        marked.add(tmp_path / "models", name, 1)
    return tmp_path / "models"


@asynccontextmanager
async def workers(folder: Path, count: int = 2, **settings: Any) -> AsyncIterator[list]:
    """Several data planes of one service: no worker looks at the repository by itself."""
    common = {"default_model": "default", "threads": 1, "management": True, "watch_seconds": 0}
    common["state"] = folder.parent / "state"
    given = Settings(models=folder, **{**common, **settings})
    planes = [DataPlane(given) for _ in range(count)]
    await asyncio.gather(*(plane.start() for plane in planes))
    try:
        yield planes
    finally:
        await asyncio.gather(*(plane.stop() for plane in planes))


async def test_closed_unless_a_setting_opens_it(folder: Path) -> None:
    async with workers(folder, 1, management=False) as (plane,):
        with pytest.raises(ManagementClosed):
            plane.index()
        for call in (plane.load, plane.unload):
            with pytest.raises(ManagementClosed, match="ZOO_MANAGEMENT"):
                await call("net")
        assert not (folder.parent / "state").exists()
        assert await version(plane) == 1


@pytest.mark.parametrize("load", ["all", "used"])
async def test_a_new_version_is_loaded_in_every_worker(folder: Path, load: str) -> None:
    async with workers(folder, load=load, versions="latest") as (one, other):
        marked.add(folder, "net", 2)
        await one.load("net")
        for plane in (one, other):
            assert states(plane) == {"2": "ready"}
            assert await version(plane) == 2
            assert index(plane)["2"] == ("READY", "")


async def test_unloaded_until_it_is_loaded(folder: Path) -> None:
    async with workers(folder) as (one, other):
        await one.unload("net")
        for plane in (one, other):
            assert states(plane) == {"1": "unloaded"}
            with pytest.raises(NotReady, match="was unloaded by its operator"):
                await ask(plane)
            assert index(plane)["1"] == ("UNAVAILABLE", "unloaded by its operator")
            assert [e.name for e in plane.index(ready_only=True)] == ["default"]
            assert len(plane.index()) == 2
        await other.load("net")
        assert [await version(plane) for plane in (one, other)] == [1, 1]
        await one.unload("net")
        await one.unload("net")


async def test_versions_of_a_load_override_the_policy(folder: Path) -> None:
    for number in (2, 3):
        marked.add(folder, "net", number)
    async with workers(folder) as (one, other):
        for versions, answers, there in [
            ("1", 1, {"1"}),
            ("1,2", 2, {"1", "2"}),
            ("latest", 3, {"3"}),
            (None, 3, {"1", "2", "3"}),
        ]:
            await one.load("net", versions)
            for plane in (one, other):
                assert await version(plane) == answers
                assert set(states(plane)) == there
        with pytest.raises(NotReady, match="has no version 4"):
            await one.load("net", "3,4")
        with pytest.raises(BadParameter, match="it can be all, latest"):
            await one.load("net", "newest")


async def test_a_broken_version_is_refused_with_the_reason(folder: Path) -> None:
    async with workers(folder) as (one, other):
        marked.add(folder, "net", 2, broken=True)
        with pytest.raises(NotReady, match=r"version 2 was refused: .*SHA-256.*; version 1 answer"):
            await one.load("net")
        assert await version(one) == await version(other) == 1
        shutil.rmtree(folder / "net" / "2")
        marked.add(folder, "net", 2)
        await one.load("net")
        assert await version(other) == 2


async def test_what_cannot_be_asked_for(folder: Path) -> None:
    ensemble(folder, "pair", Member(model="net"), Member(model="default"), classes=10)
    async with workers(folder, 1, default_model="net") as (plane,):
        cases: list[tuple[type[ZooError], Awaitable[object]]] = [
            (BadParameter, plane.unload("net")),
            (UnknownModel, plane.unload("other")),
            (UnknownModel, plane.load("other")),
            (UnknownModel, plane.load("../models/net")),
            (UnknownModel, plane.load("n" * 100_000)),
            (UnknownModel, plane.load("net\0")),
            (UnknownModel, plane.unload("")),
            (BadParameter, plane.load("net", "x" * 100_000)),
        ]
        for error, call in cases:
            with pytest.raises(error) as refused:
                await call
            assert len(refused.value.detail) < 300
        assert await version(plane) == 1
        await plane.unload("pair")
        await plane.unload("default")
        with pytest.raises(NotReady, match="member default cannot be used"):
            await plane.load("pair")
        await plane.load("default")
        await plane.load("pair", "1")


async def test_members_of_the_default_model_stay(folder: Path) -> None:
    marked.add(folder, "other", 1)
    ensemble(folder, "pair", Member(model="net"), Member(model="other"), classes=10)
    async with workers(folder, 1, default_model="pair") as (plane,):
        with pytest.raises(BadParameter, match="'pair' must always answer"):
            await plane.unload("net")
        await plane.unload("default")


async def test_requests_in_flight_are_answered(folder: Path) -> None:
    async with workers(folder) as (one, other):
        answers = [asyncio.ensure_future(ask(plane)) for plane in (one, other) for _ in range(20)]
        await asyncio.sleep(0)
        await one.unload("net")
        assert {answer.version for answer in await asyncio.gather(*answers)} == {"1"}


async def test_a_worker_that_is_started_anew_follows(folder: Path) -> None:
    async with workers(folder, 1) as (one,):
        await one.unload("net")
        async with workers(folder, 1) as (other,):
            assert states(other) == {"1": "unloaded"}
            reached = other._reconciler.state.reached
            await until(lambda: [r.generation for r in reached("net")] == [1, 1])
            await other.load("net", "1")
            marked.add(folder, "net", 2)
            await other.unload("net")
            await one.load("net", "1")
        async with workers(folder, 1) as (other,):
            assert await version(other) == 1
        await one.load("net")
        assert await version(one) == 2


async def test_another_service_begins_with_its_settings(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with workers(folder, 1) as (one,):
        await one.unload("net")
        monkeypatch.setattr(os, "getppid", os.getpid)  # as if another process had started it
        async with workers(folder, 1) as (other,):
            assert await version(other) == 1
            await other.unload("net")
            await other.load("net")
        assert states(one) == {"1": "unloaded"}


async def test_a_request_learns_of_a_load_before_it_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.repository.reconciler.FOLLOW_SECONDS", 3600)
    async with workers(folder) as (one, other):
        await asyncio.gather(*(unload_alone(one, name) for name in ("net",)))
        await other._reconciler.catch_up()
        with pytest.raises(NotReady):
            await ask(other)
        marked.add(folder, "late", 3)
        for name in ("net", "late"):
            with pytest.raises(DeadlineExceeded, match="1 workers"):
                await one.load(name, deadline=perf_counter() + 1)
            assert (await ask(other, name)).model == name


async def unload_alone(plane: DataPlane, name: str) -> None:
    with pytest.raises(DeadlineExceeded):
        await plane.unload(name, deadline=perf_counter() + 0.2)


async def test_a_state_that_cannot_be_written(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("no folder")
    async with workers(folder, 1, state=tmp_path / "file" / "state") as (plane,):
        assert caplog.text.count("cannot be written (Not a directory)") == 1
        with pytest.raises(NotReady, match="ZOO_STATE"):
            await plane.unload("net")
        assert await version(plane) == 1
        assert len(plane.index()) == 2
    async with workers(folder, 1) as (plane,):
        shutil.rmtree(tmp_path / "state")
        with pytest.raises(NotReady, match=r"ZOO_STATE=.* cannot be written: No such file"):
            await plane.unload("net")
        assert await version(plane) == 1


async def test_a_state_that_cannot_be_read_changes_nothing(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with workers(folder, 1) as (plane,):
        (run,) = (tmp_path / "state").iterdir()
        (run / "desired.json").write_text('{"generation": "many"')
        await until(lambda: "cannot be used" in caplog.text)
        assert await version(plane) == 1
        await plane.unload("net")
        assert states(plane) == {"1": "unloaded"}


@pytest.mark.long
async def test_under_load_calls_break_nothing(folder: Path) -> None:
    """Two workers, requests to both without a pause, 20 loads and unloads of other models."""
    marked.add(folder, "other", 4)
    async with workers(folder, versions="latest") as (one, other):
        over = asyncio.Event()
        seen: set[int] = set()

        async def client(plane: DataPlane) -> None:
            while not over.is_set():
                seen.add(await version(plane))

        clients = [asyncio.ensure_future(client(p)) for p in (one, other) for _ in range(2)]
        for turn in range(10):
            plane = (one, other)[turn % 2]
            await plane.unload("other")
            marked.add(folder, "net", turn + 2)
            await asyncio.gather(plane.load("net"), (one, other)[turn % 2 - 1].load("other"))
            assert [await version(p, "other") for p in (one, other)] == [4, 4]
        over.set()
        await asyncio.gather(*clients)
        assert seen >= set(range(2, 11))


def test_calls_at_the_same_time_are_all_written_down(tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    states = [DesiredState(tmp_path) for _ in range(4)]
    with ThreadPoolExecutor(8) as pool:
        work = [pool.submit(states[n % 4].ask, f"m{n}", unloaded=True) for n in range(40)]
        assert sorted(call.result() for call in work) == list(range(1, 41))
    assert len(states[0].read().models) == 40
    states[1].reach("m0", Reached(7, "why"))
    assert sorted(states[0].reached("m0")) == [(0, None)] * 3 + [(7, "why")]
    for state in states:
        state.close()
    assert states[0].reached("m0") == []
