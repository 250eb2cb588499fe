"""What operators ask for reaches every worker in time, whatever lies in the folder of the state."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from time import perf_counter

import httpx
import pytest

from loadtests.harness import marked
from service.dataplane.dataplane import DataPlane
from service.errors import DeadlineExceeded, NotReady, UnknownModel
from service.repository.desired_state import MOST_BYTES, MOST_GENERATION, DesiredState
from service.transports.http.app import create_app
from service.transports.oip import faces, server
from tests.capabilities import demand
from tests.unit.repository.test_control import folder as folder
from tests.unit.repository.test_control import workers
from tests.unit.repository.test_version_set import index, states, until, version

LIVING = "of a process that lives"
STRAY = "1-1-00000000.json"
"""As a worker's file is called; the first process lives as long as the system does."""


def living() -> str:
    """The name of a worker's file whose process lives and is no worker."""
    demand("proc")
    began = Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()[19].decode()
    return f"{os.getpid()}-{began}-00000000.json"


def sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(MOST_BYTES + 1)


def text(words: str) -> Callable[[Path], object]:
    return lambda path: path.write_text(words)


FILES: dict[str, tuple[str, Callable[[Path], object]]] = {
    "no worker": ("x.json", text("{}")),
    "no process": ("1-2-3.json", text("{}")),
    "no JSON": (LIVING, text("{")),
    "no UTF-8": (LIVING, lambda path: path.write_bytes(b'{"\xff": [1, null]}')),
    "no object": (LIVING, text("[]")),
    "no pair": (LIVING, text('{"net": 7}')),
    "a text": (LIVING, text('{"net": ["7", {}]}')),
    "below zero": (LIVING, text('{"net": [-1, null]}')),
    "too much": (LIVING, text(json.dumps({"net": [MOST_GENERATION, None]}))),
    "too long": (LIVING, sparse),
    "a folder": (LIVING, Path.mkdir),
    "a pipe": (LIVING, os.mkfifo),
    "nowhere": (LIVING, lambda path: path.symlink_to(path)),
}


@pytest.mark.parametrize(("name", "make"), FILES.values(), ids=list(FILES))
async def test_a_strange_file_among_those_of_the_workers(
    name: str, make: Callable[[Path], object], folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    name = living() if name == LIVING else name
    async with workers(folder) as (one, other):
        (among,) = (folder.parent / "state").glob("*/workers")
        make(among / name)
        await one.unload("net")
        assert states(other) == {"1": "unloaded"}
        await other.load("net")
        assert await version(one) == 1
    told = [r for r in caplog.records if r.levelno >= logging.ERROR]
    assert len({id(r.args) for r in told}) == len(told)
    assert sum(f"{name} cannot be used, it is ignored" in r.getMessage() for r in told) in (1, 2)
    assert all("cannot be used, it is ignored" in r.getMessage() for r in told)


WISH = {"generation": 5, "unloaded": True}
CONTENTS: dict[str, object] = {
    "a policy": {"generation": 5, "models": {"net": {**WISH, "versions": "newest"}}},
    "a name": {"generation": 5, "models": {"../net": WISH}},
    "a number": {"generation": MOST_GENERATION, "models": {"net": WISH}},
    "a member": {"generation": 5, "models": {"net": WISH}, "more": 1},
    "a list": [],
}


def test_a_process_that_has_the_id_of_a_dead_worker_is_no_worker(tmp_path: Path) -> None:
    """Else loads would wait for it."""
    state = DesiredState(tmp_path)
    (among,) = tmp_path.glob("*/workers")
    pid, began, rest = living().split("-")
    of_dead = among / f"{pid}-{int(began) - 1}-{rest}"
    for path in (of_dead, among / living()):
        path.write_text('{"net": [7, null]}')
    assert sorted(state.reached("net")) == [(0, None), (7, None)]
    assert not of_dead.exists()
    state.close()


@pytest.mark.parametrize("content", CONTENTS.values(), ids=list(CONTENTS))
async def test_a_desired_state_that_nobody_here_wrote(
    content: object, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with workers(folder, 1) as (plane,):
        (run,) = (folder.parent / "state").iterdir()
        (run / "desired.json").write_text(json.dumps(content))
        await until(lambda: "desired.json cannot be used" in caplog.text)
        assert await version(plane) == 1
        await plane.unload("net")
        assert states(plane) == {"1": "unloaded"}
        await plane.load("net")
        assert await version(plane) == 1
    assert caplog.text.count("desired.json cannot be used") == 1


async def test_a_desired_state_that_is_no_file(folder: Path) -> None:
    async with workers(folder, 1) as (plane,):
        (run,) = (folder.parent / "state").iterdir()
        os.mkfifo(run / "desired.json")
        with pytest.raises(NotReady, match="it is no regular file"):
            await plane.unload("net")
        assert await version(plane) == 1


async def unload(plane: DataPlane, name: str) -> None:
    with suppress(DeadlineExceeded):  # the others need not follow, nor must they not
        await plane.unload(name, deadline=perf_counter() + 0.2)


async def test_every_request_learns_of_a_load_before_it_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.repository.reconciler.FOLLOW_SECONDS", 3600)
    async with workers(folder) as (one, other):
        ways = {
            "metadata": lambda name: faces.find(other, name, None),
            "crops": lambda name: faces.find(other, f"{name}.tensor", "1"),
            "ready": lambda name: server.model_ready(other, name, None),
            "statistics": lambda name: server.model_statistics(other, name, None),
            "listed": other.versions,
            "unload": lambda name: unload(other, name),
        }
        for name, ask in ways.items():
            with pytest.raises(UnknownModel):
                await faces.find(other, name, None)
            marked.add(folder, name, 1)
            state = one._reconciler.state
            loading = asyncio.ensure_future(one.load(name))
            await until(lambda s=state, n=name: n in s.current().models)  # type: ignore[misc]
            await ask(name)
            loading.cancel()


async def test_a_call_ends_at_the_deadline_that_it_names(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.repository.reconciler.FOLLOW_SECONDS", 3600)
    async with workers(folder, deadline_ms=600_000) as (one, _):
        transport = httpx.ASGITransport(create_app(one))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            for action in ("load", "unload"):
                path = f"/v2/repository/models/net/{action}"
                reply = await client.post(path, headers={"X-Request-Timeout-Ms": "300"})
                assert (reply.status_code, reply.json()["code"]) == (504, "deadline_exceeded")
        before = one._reconciler.state.current().generation
        with pytest.raises(DeadlineExceeded, match="before anything was asked"):
            await one.load("net", deadline=perf_counter() - 1)
        assert one._reconciler.state.current().generation == before


async def test_what_was_refused_is_tried_again_when_it_is_asked_for(folder: Path) -> None:
    """Though nothing in the folder shows that it is worth it."""
    async with workers(folder) as (one, other):
        broken = marked.add(folder, "net", 2, broken=True) / "model.onnx"
        with pytest.raises(NotReady, match=r"version 2 was refused: .*version 1 answers"):
            await one.load("net")
        about = broken.stat()
        whole = marked.add(folder.parent / "whole", "net", 2) / "model.onnx"
        with broken.open("r+b") as file:
            shutil.copyfileobj(whole.open("rb"), file)
        os.utime(broken, ns=(about.st_atime_ns, about.st_mtime_ns))
        await one._reconciler.look()
        assert index(one)["2"][0] == "UNAVAILABLE"
        await one.load("net")
        for plane in (one, other):
            assert await version(plane) == 2
            assert index(plane)["2"] == ("READY", "")
