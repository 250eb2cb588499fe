"""A picture's way through the threads: time limits, leaving clients, parts that fail."""

from __future__ import annotations

import asyncio
import threading
import time
import weakref
from collections import Counter
from collections.abc import Iterator
from time import perf_counter
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import uvloop

from service.dataplane import picture_task
from service.dataplane.picture_task import PictureTask, Rules
from service.engine.admission import Admission
from service.engine.batcher import Batcher
from service.engine.deadlines import Deadlines
from service.engine.pool import Pool
from service.engine.session import Outputs
from service.errors import DeadlineExceeded, Internal, NotReady, UndecodablePicture

LABELS: Any = [f"class {index}" for index in range(3)]


class Log(Counter[str]):
    """Stands for the metrics."""

    def ran(self, crops: int, input_s: float, infer_s: float) -> None:
        self["batches"] += 1

    def failed(self, crops: int) -> None:
        self["batches"] += 1

    def dropped(self, reason: str) -> None:
        self[reason] += 1

    def retried(self, requests: int) -> None:
        self["retried"] += 1

    def waiting(self, crops: int) -> None:
        self["waiting"] += crops


class Part:
    """A network whose probabilities are given, and a protocol that cuts ``crops`` crops."""

    def __init__(self, pool: Pool, probabilities: list[float], crops: int = 1) -> None:
        self.gate, self.called = threading.Event(), threading.Event()
        self.gate.set()
        self.fails = False
        self.log = Log()
        self._probabilities = probabilities
        batcher = Batcher(self._run, pool=pool, concurrency=2, max_batch=2, observer=self.log)
        self.batcher = batcher
        self.network = SimpleNamespace(
            name="part", manifest=None, model=SimpleNamespace(batchers={"model": batcher})
        )
        cut = [np.zeros((crops, 2, 2, 3), np.uint8)]
        self.protocol = SimpleNamespace(
            graph="model",
            crops=lambda *_: cut,
            answer=lambda groups: np.concatenate(groups).mean(axis=0),
        )
        self.weight = 1.0
        self.manifest = None

    def _run(self, crops: np.ndarray) -> Outputs:
        self.called.set()
        assert self.gate.wait(10)
        if self.fails:
            raise RuntimeError("the device fell over")
        rows = np.tile(np.float32(self._probabilities), (len(crops), 1))
        return Outputs(rows, rows)


@pytest.fixture
def pool() -> Iterator[Pool]:
    threads = Pool(2, "test")
    yield threads
    threads.close()


@pytest.fixture(autouse=True)
def decoded(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Decoding waits for ``gate``; ``begun`` says that it has begun."""
    state = SimpleNamespace(gate=threading.Event(), begun=threading.Event(), error=None)
    state.gate.set()

    def decode(*_: Any, **__: Any) -> None:
        state.begun.set()
        assert state.gate.wait(10)
        if state.error:
            raise state.error

    monkeypatch.setattr(picture_task, "decode_scaled", decode)
    return state


def run(
    pool: Pool,
    *parts: Any,
    seconds: float = 10,
    picture: bytes = b"picture",
) -> Any:
    permit = Admission(1000, lambda _: None).acquire(100)
    rules = Rules(parts, permit, perf_counter() + seconds, 1, "exact", "apply", LABELS, 3)
    return PictureTask(picture, rules, pool, Deadlines()).result()


async def begun(event: threading.Event) -> None:
    assert await asyncio.to_thread(event.wait, 10)


async def test_parts_are_combined_and_every_stage_is_timed(pool: Pool) -> None:
    parts = Part(pool, [0.1, 0.2, 0.7]), Part(pool, [0.5, 0.4, 0.1], crops=5)
    done = await run(pool, *parts)
    assert [each.index for each in done.predictions] == [2, 0, 1]
    assert done.predictions[0].probability == pytest.approx(0.4)
    assert set(done.stages) == {"decode", "preprocess", "queue", "inference"}
    assert min(done.stages.values()) >= 0
    assert parts[1].log["batches"] == 3
    assert parts[0].log["waiting"] == parts[1].log["waiting"] == 0


async def test_the_deadline_is_kept_while_a_thread_decodes(
    pool: Pool, decoded: SimpleNamespace
) -> None:
    part = Part(pool, [1, 0, 0])
    decoded.gate.clear()
    with pytest.raises(DeadlineExceeded, match="decoded"):
        await run(pool, part, seconds=0.05)
    decoded.gate.set()
    await pool.submit("prepare", lambda: None)
    await part.batcher.close()
    assert part.log["batches"] == 0


async def test_the_deadline_is_kept_while_the_device_is_busy(pool: Pool) -> None:
    part = Part(pool, [1, 0, 0], crops=9)
    part.gate.clear()
    with pytest.raises(DeadlineExceeded, match="queue"):
        await run(pool, part, seconds=0.1)
    part.gate.set()
    await part.batcher.close()
    assert part.log == {"batches": 2, "expired": 1, "waiting": 0}


@pytest.mark.parametrize("run_loop", [asyncio.run, uvloop.run])
def test_what_is_done_in_time_is_no_late_answer(run_loop: Any, pool: Pool) -> None:
    """Though the event loop, held up meanwhile, finds the result and the deadline at once."""

    async def held_up() -> Any:
        part = Part(pool, [0.1, 0.2, 0.7])
        part.gate.clear()
        work = asyncio.ensure_future(run(pool, part, seconds=2))
        await begun(part.called)
        part.gate.set()
        time.sleep(2.1)  # noqa: ASYNC251
        return await work

    done = run_loop(held_up())
    assert [each.index for each in done.predictions] == [2, 1, 0]


async def test_a_closed_pool_is_waited_for_by_nobody(pool: Pool) -> None:
    pool.close()
    with pytest.raises(RuntimeError, match="closed"):
        await run(pool, Part(pool, [1, 0, 0]))


def test_a_result_for_a_loop_that_was_closed_is_dropped(
    pool: Pool, caplog: pytest.LogCaptureFixture
) -> None:
    part = Part(pool, [1, 0, 0])
    part.gate.clear()
    part.fails = True

    async def left() -> asyncio.Future[Any]:
        work = asyncio.ensure_future(run(pool, part))
        await begun(part.called)
        return work

    loop = asyncio.new_event_loop()
    work = loop.run_until_complete(left())
    loop.close()
    part.gate.set()
    end = time.monotonic() + 10
    while part.log["waiting"] or not part.log["batches"]:
        assert time.monotonic() < end
        time.sleep(0.01)
    pool.close()
    assert not work.done()
    assert "the device fell over" in caplog.text  # of this failure its batcher tells
    assert "Event loop is closed" not in caplog.text


async def test_a_client_that_left_lets_go_of_everything(
    pool: Pool, decoded: SimpleNamespace
) -> None:
    class Picture(bytearray):
        pass

    decoded.gate.clear()
    work = [asyncio.ensure_future(run(pool, Part(pool, [1, 0, 0]))) for _ in range(2)]
    await begun(decoded.begun)
    picture = Picture(b"waits for a thread")
    gone = weakref.ref(picture)
    last = asyncio.ensure_future(run(pool, Part(pool, [1, 0, 0]), picture=picture))
    await asyncio.sleep(0.01)
    del picture
    assert gone() is not None
    last.cancel()
    with pytest.raises(asyncio.CancelledError):
        await last
    del last
    assert gone() is None
    decoded.gate.set()
    await asyncio.gather(*work)


async def test_a_client_that_left_is_dropped_by_every_part(pool: Pool) -> None:
    busy, other = Part(pool, [1, 0, 0], crops=9), Part(pool, [1, 0, 0], crops=9)
    busy.gate.clear()
    other.gate.clear()
    work = asyncio.ensure_future(run(pool, busy, other))
    await begun(busy.called)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    busy.gate.set()
    other.gate.set()
    for part in (busy, other):
        await part.batcher.close()
        assert part.log["cancelled"] == 1
        assert part.log["waiting"] == 0
        assert part.log["batches"] <= 2


async def test_a_part_that_fails_fails_the_picture_and_drops_the_others(pool: Pool) -> None:
    bad, slow = Part(pool, [1, 0, 0]), Part(pool, [1, 0, 0], crops=9)
    bad.fails = True
    slow.gate.clear()
    with pytest.raises(Internal):
        await run(pool, slow, bad)
    slow.gate.set()
    await slow.batcher.close()
    assert slow.log["batches"] <= 2


async def test_errors_of_a_thread_are_raised_where_the_result_is_awaited(
    pool: Pool, decoded: SimpleNamespace
) -> None:
    decoded.error = UndecodablePicture("broken")
    with pytest.raises(UndecodablePicture, match="broken"):
        await run(pool, Part(pool, [1, 0, 0]))
    decoded.error = MemoryError()
    with pytest.raises(MemoryError):
        await run(pool, Part(pool, [1, 0, 0]))


async def test_probabilities_that_are_not_finite_are_no_answer(pool: Pool) -> None:
    with pytest.raises(Internal, match="finite"):
        await run(pool, Part(pool, [float("nan"), 0, 0]))


async def test_a_model_that_is_being_unloaded_says_so(pool: Pool) -> None:
    part = Part(pool, [1, 0, 0])
    await part.batcher.close()
    with pytest.raises(NotReady):
        await run(pool, part)
