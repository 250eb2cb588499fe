"""What the batcher says of a request's time, and what it does where the time is over.

Each bound holds however busy the machine is.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from time import perf_counter
from typing import Any, cast

import numpy as np
import pytest

from service.engine.admission import Admission
from service.engine.batcher import Answer, Batcher
from service.engine.pool import Pool
from service.engine.session import Outputs
from service.errors import DeadlineExceeded, ZooError

PAUSE_S = 0.2


class Observer:
    """Takes note of what is dropped."""

    def __init__(self) -> None:
        self.reasons: list[str] = []

    def ran(self, crops: int, input_s: float, infer_s: float) -> None: ...
    def failed(self, crops: int) -> None: ...
    def retried(self, requests: int) -> None: ...
    def waiting(self, crops: int) -> None: ...
    def dropped(self, reason: str) -> None:
        self.reasons.append(reason)


class Slow:
    """A device that takes `PAUSE_S` for a batch, and not before its gate is open."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.calls: list[float] = []
        self.called = threading.Event()
        self.seen: list[int] = []

    def __call__(self, crops: np.ndarray) -> Outputs:
        self.calls.append(perf_counter())
        self.called.set()
        assert self.gate.wait(30)
        time.sleep(PAUSE_S)
        values = crops.reshape(len(crops), -1)[:, :1].astype(np.float32)
        self.seen += values[:, 0].astype(int).tolist()
        return Outputs(values, values)


class Bench:
    """One thread, one slow device, batches of two crops."""

    def __init__(self) -> None:
        self.device, self.observer = Slow(), Observer()
        self.pool = Pool(1, "test")
        self.admission = Admission(100, lambda crops: None)
        self.batcher = Batcher(
            self.device,
            pool=self.pool,
            concurrency=1,
            max_batch=2,
            observer=cast(Any, self.observer),
        )

    def submit(self, *values: int, seconds: float = 60) -> Future[Answer]:
        crops = np.stack([np.full((2, 2, 1), value, np.uint8) for value in values])
        future: Future[Answer] = Future()

        def done(answer: Answer | ZooError) -> None:
            if isinstance(answer, ZooError):
                future.set_exception(answer)
            else:
                future.set_result(answer)

        permit = self.admission.acquire(len(values))
        self.batcher.submit(crops, permit, perf_counter() + seconds, done)
        return future


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.device.gate.set()
    made.pool.close()


def test_the_queue_ends_where_the_device_begins(bench: Bench) -> None:
    first = bench.submit(1)
    assert bench.device.called.wait(30)
    before = perf_counter()
    second = bench.submit(2)
    submitted = perf_counter()
    time.sleep(PAUSE_S)
    opened = perf_counter()
    bench.device.gate.set()
    answer = second.result(30)
    answered = perf_counter()
    begun = bench.device.calls[1]
    assert opened - submitted + PAUSE_S <= answer.queue_s <= begun - before
    assert PAUSE_S <= answer.inference_s <= answered - opened - PAUSE_S
    assert first.result(30).queue_s <= before - bench.device.calls[0] + answered


def test_the_inference_of_many_crops_lasts_from_the_first_batch_to_the_last(
    bench: Bench,
) -> None:
    bench.device.gate.set()
    before = perf_counter()
    answer = bench.submit(1, 2, 3, 4, 5).result(30)
    assert len(bench.device.calls) == 3
    assert answer.inference_s >= 3 * PAUSE_S
    assert answer.queue_s <= bench.device.calls[0] - before


def test_what_is_late_is_never_computed_and_told_so(bench: Bench) -> None:
    """Though nobody drops it: who asked may have other things to wait for."""
    first = bench.submit(1)
    assert bench.device.called.wait(30)
    late = bench.submit(2, seconds=0.01)
    time.sleep(0.02)
    bench.device.gate.set()
    with pytest.raises(DeadlineExceeded):
        late.result(30)
    first.result(30)
    assert bench.submit(3).result(30)
    assert bench.device.seen == [1, 3]
    assert bench.observer.reasons == ["expired"]
