"""Spans of what the engine does with requests: linked with their batch, marked where they end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextvars import ContextVar
from time import perf_counter
from typing import Any, cast

import numpy as np
import pytest
from opentelemetry.sdk.trace import ReadableSpan

from service.engine.admission import Admission
from service.engine.batcher import Answer, Batcher
from service.engine.deadlines import Deadlines
from service.engine.outputs import Outputs
from service.engine.pool import Pool
from service.errors import DeadlineExceeded, Internal
from service.telemetry.spans import Trace, Tracer
from tests.harness import kept_spans

PATIENCE_S = 30


class Observer:
    """Nobody counts here."""

    def ran(self, crops: int, input_s: float, infer_s: float) -> None: ...
    def failed(self, crops: int) -> None: ...
    def retried(self, requests: int) -> None: ...
    def waiting(self, crops: int) -> None: ...
    def dropped(self, reason: str) -> None: ...


class Engine:
    """One thread that waits at a gate before it computes, batches of four crops, and traces."""

    def __init__(self) -> None:
        self.gate, self.called = threading.Event(), threading.Event()
        self.fails = False
        current: ContextVar[Trace | None] = ContextVar("current", default=None)
        self.tracer = Tracer(kept_spans.__name__, current)
        self.pool = Pool(1, "test")
        self.admission = Admission(100, lambda crops: None)
        self.batcher = Batcher(
            self._run, pool=self.pool, concurrency=1, max_batch=4, observer=cast(Any, Observer())
        )

    def _run(self, crops: np.ndarray) -> Outputs:
        self.called.set()
        assert self.gate.wait(PATIENCE_S)
        if self.fails:
            raise RuntimeError("the device fell over")
        values = np.zeros((len(crops), 3), np.float32)
        return Outputs(values, values)

    async def infer(self, name: str, seconds: float = PATIENCE_S) -> Answer:
        trace = self.tracer.call(f"/{name}/Infer", "", ())
        work = trace.use_case("infer", perf_counter())
        deadline = perf_counter() + seconds
        try:
            with self.admission.acquire(1) as permit:
                crop = np.zeros((1, 2, 2, 3), np.uint8)
                watch = work.crops("net")
                return await self.batcher.infer(crop, permit, deadline, Deadlines(), watch)
        finally:
            work.end(None, "ok", {})
            trace.end("ok")

    def spans(self) -> list[ReadableSpan]:
        """All that ended, by their start."""
        self.tracer.close()
        return sorted(kept_spans.KEPT, key=lambda span: span.start_time or 0)


@pytest.fixture
def engine() -> Iterator[Engine]:
    kept_spans.KEPT.clear()
    made = Engine()
    yield made
    made.gate.set()
    made.pool.close()


def named(spans: list[ReadableSpan], name: str) -> list[ReadableSpan]:
    return [span for span in spans if span.name == name]


async def test_a_batch_is_linked_with_its_requests_and_they_with_it(engine: Engine) -> None:
    first = asyncio.ensure_future(engine.infer("first"))
    assert await asyncio.to_thread(engine.called.wait, PATIENCE_S)
    others = [asyncio.ensure_future(engine.infer(f"other{number}")) for number in range(3)]
    await asyncio.sleep(0)  # they are enqueued: the device is busy
    engine.gate.set()
    await asyncio.gather(first, *others)
    spans = engine.spans()
    alone, shared = named(spans, "batch")
    assert alone.attributes is not None
    assert shared.attributes is not None
    assert alone.attributes["zoo.batch.requests"] == 1
    assert shared.attributes["zoo.batch.requests"] == shared.attributes["zoo.batch.crops"] == 3
    works = {span.context.span_id: span for span in named(spans, "infer") if span.context}
    linked = [link.context.span_id for link in shared.links]
    assert len(set(linked)) == 3
    assert set(linked) < set(works)
    assert shared.parent is not None
    assert shared.parent.span_id in linked  # it lies in the trace of one of them
    assert shared.context is not None
    below = [
        span for span in named(spans, "inference") if span.parent and span.parent.span_id in linked
    ]
    assert len(below) == 3
    for inference in below:
        (link,) = inference.links
        assert link.context.span_id == shared.context.span_id


async def test_what_is_given_up_in_the_queue_has_its_error_there(engine: Engine) -> None:
    first = asyncio.ensure_future(engine.infer("first"))
    assert await asyncio.to_thread(engine.called.wait, PATIENCE_S)
    with pytest.raises(DeadlineExceeded):
        await engine.infer("late", 0.05)
    engine.gate.set()
    await first
    served, late = named(engine.spans(), "queue")
    assert served.attributes is not None
    assert late.attributes is not None
    assert "error.type" not in served.attributes
    assert late.attributes["error.type"] == "deadline_exceeded"
    assert [event.name for event in late.events] == ["exception"]
    assert not late.status.is_ok


async def test_what_the_device_cannot_compute_has_its_error_behind_the_queue(
    engine: Engine,
) -> None:
    engine.fails = True
    engine.gate.set()
    with pytest.raises(Internal):
        await engine.infer("broken")
    spans = engine.spans()
    (queue,), (inference,), (batch,) = (
        named(spans, name) for name in ("queue", "inference", "batch")
    )
    assert queue.attributes is not None
    assert inference.attributes is not None
    assert batch.attributes is not None
    assert "error.type" not in queue.attributes
    assert inference.attributes["error.type"] == batch.attributes["error.type"] == "internal"
