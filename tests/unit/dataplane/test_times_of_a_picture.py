"""What an answer says of where its time went; each bound holds however busy the machine is."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest

from loadtests.harness import marked
from service.dataplane import picture_task
from service.imaging.decode import decode_scaled
from service.manifest import EnsembleManifest, Member
from tests.harness.planes import ask, slowed, started, until

PAUSE_S = 0.2
PAUSE_MS = 1e3 * PAUSE_S


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The default model, and another of the same labels."""
    for name in ("default", "other"):
        marked.add(tmp_path, name, 1)
    return tmp_path


async def test_the_wait_for_a_thread_is_time_in_the_queue(folder: Path) -> None:
    async with started(folder) as plane:
        gate = threading.Event()
        plane._pool.post("prepare", gate.wait)
        asking = asyncio.ensure_future(ask(plane))
        await until(lambda: plane.admission.in_use == 1)
        waits = perf_counter()
        await asyncio.sleep(PAUSE_S)
        waited_ms = 1e3 * (perf_counter() - waits)
        gate.set()
        timing = (await asking).timing_ms
    assert timing.queue >= waited_ms
    assert timing.total >= timing.queue + timing.decode + timing.inference


async def test_the_time_of_a_slow_device_is_inference(folder: Path) -> None:
    async with started(folder) as plane:
        await slowed(plane, "default", PAUSE_S)
        begun = perf_counter()
        timing = (await ask(plane)).timing_ms
        took_ms = 1e3 * (perf_counter() - begun)
    assert timing.inference >= PAUSE_MS
    assert PAUSE_MS <= timing.total <= took_ms
    assert timing.decode + timing.preprocess + timing.queue <= took_ms - PAUSE_MS


async def test_a_member_waits_while_another_one_is_computed(folder: Path) -> None:
    """By one thread; the queue of the picture is that of the member that waits longest."""
    manifest = EnsembleManifest(
        kind="ensemble",
        name="pair",
        version="1",
        description="x",
        classes=10,
        members=[Member(model="default"), Member(model="other")],
    )
    (folder / "pair" / "1").mkdir(parents=True)
    (folder / "pair" / "1" / "manifest.json").write_text(manifest.model_dump_json())
    async with started(folder) as plane:
        for name in ("default", "other"):
            await slowed(plane, name, PAUSE_S)
        timing = (await ask(plane, "pair")).timing_ms
    assert timing.queue >= PAUSE_MS
    assert timing.inference >= PAUSE_MS
    assert timing.total >= 2 * PAUSE_MS


async def test_decoding_is_not_called_cutting(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    def slow(*given: Any, **named: Any) -> Any:
        time.sleep(PAUSE_S)
        return decode_scaled(*given, **named)

    monkeypatch.setattr(picture_task, "decode_scaled", slow)
    async with started(folder) as plane:
        begun = perf_counter()
        timing = (await ask(plane)).timing_ms
        took_ms = 1e3 * (perf_counter() - begun)
    assert timing.decode >= PAUSE_MS
    assert timing.preprocess <= took_ms - PAUSE_MS
