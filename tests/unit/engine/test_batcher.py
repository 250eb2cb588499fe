"""The batcher: everybody gets their own answer, once; nobody starves; nothing leaks."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from time import perf_counter
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.engine.admission import Admission
from service.engine.batcher import Answer, Batcher
from service.engine.deadlines import Deadlines
from service.engine.pool import Pool
from service.engine.session import Outputs
from service.errors import DeadlineExceeded, Internal, NotReady, Overloaded, ZooError


class Device:
    """Stands for the network: its answer for a crop is the crop's own value."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.called = threading.Event()
        self.batches: list[list[int]] = []
        self.poison: int | None = None
        self.pause = 0.0

    def __call__(self, crops: np.ndarray) -> Outputs:
        self.called.set()
        self.gate.wait(10)
        time.sleep(self.pause)
        values = crops.reshape(len(crops), -1)[:, :1].astype(np.float32)
        self.batches.append(values[:, 0].astype(int).tolist())
        if self.poison in self.batches[-1]:
            raise RuntimeError("the device fell over")
        return Outputs(values, -values)


class Log:
    def __init__(self) -> None:
        self.reasons: Counter[str] = Counter()
        self.now = 0

    def ran(self, crops: int, input_s: float, infer_s: float) -> None:
        pass

    def failed(self, crops: int) -> None:
        self.reasons["failed"] += 1

    def dropped(self, reason: str) -> None:
        self.reasons[reason] += 1

    def retried(self, requests: int) -> None:
        self.reasons["retried"] += 1

    def waiting(self, crops: int) -> None:
        self.now += crops
        assert self.now >= 0


def crops(*values: int, side: int = 2) -> np.ndarray:
    return np.stack([np.full((side, side, 1), value, np.uint8) for value in values])


class Bench:
    """A batcher on a device, with an admission of its own."""

    def __init__(self, *, concurrency: int = 1, max_batch: int = 4, capacity: int = 10_000) -> None:
        self.device, self.log = Device(), Log()
        self.admitted = 0
        self.admission = Admission(capacity, self._admitted)
        self.pool = Pool(concurrency, "test")
        self.deadlines = Deadlines()
        self.batcher = Batcher(
            self.device,
            pool=self.pool,
            concurrency=concurrency,
            max_batch=max_batch,
            observer=cast(Any, self.log),
        )

    def _admitted(self, crops: int) -> None:
        self.admitted = crops

    async def infer(self, what: np.ndarray, seconds: float = 10) -> Answer:
        with self.admission.acquire(len(what)) as permit:
            return await self.batcher.infer(what, permit, perf_counter() + seconds, self.deadlines)


def values(answer: Answer) -> list[int]:
    assert (answer.outputs.probabilities == -answer.outputs.logits).all()
    return answer.outputs.probabilities[:, 0].astype(int).tolist()


async def test_each_gets_its_own_in_order() -> None:
    bench = Bench(concurrency=2)
    sizes = [1, 10, 3, 1, 7, 1, 144]
    work = [bench.infer(crops(*range(i, i + n))) for i, n in enumerate(sizes)]
    for i, answer in enumerate(await asyncio.gather(*work)):
        assert values(answer) == list(range(i, i + sizes[i]))
    assert max(map(len, bench.device.batches)) <= 4
    assert bench.admission.in_use == bench.admitted == bench.log.now == 0


async def test_a_free_device_starts_at_once_and_a_busy_one_fills_its_batches() -> None:
    bench = Bench(max_batch=4)
    bench.device.gate.clear()
    work = [asyncio.create_task(bench.infer(crops(0)))]
    await asyncio.to_thread(bench.device.called.wait, 10)
    work += [asyncio.create_task(bench.infer(crops(i))) for i in range(1, 9)]
    await asyncio.sleep(0.05)
    bench.device.gate.set()
    await asyncio.gather(*work)
    assert [len(batch) for batch in bench.device.batches] == [1, 4, 4]


async def test_long_requests_do_not_starve_short_ones() -> None:
    bench = Bench(max_batch=4)
    bench.device.gate.clear()
    long = asyncio.create_task(bench.infer(crops(*[200] * 144)))
    await asyncio.sleep(0.01)
    short = [asyncio.create_task(bench.infer(crops(i))) for i in range(3)]
    await asyncio.sleep(0.01)
    bench.device.gate.set()
    await asyncio.gather(*short)
    order = [value for batch in bench.device.batches for value in batch]
    assert all(order.index(i) < 16 for i in range(3))
    assert values(await long) == [200] * 144


async def test_large_requests_are_finished_one_by_one_by_deadline_with_others_between() -> None:
    bench = Bench(max_batch=1)
    bench.device.gate.clear()
    first = asyncio.create_task(bench.infer(crops(9)))
    await asyncio.to_thread(bench.device.called.wait, 10)
    seconds = [60, 30, 45]
    work = [bench.infer(crops(*[100 + i] * 144), each) for i, each in enumerate(seconds)]
    large = [asyncio.create_task(each) for each in work]
    tens = [asyncio.create_task(bench.infer(crops(*[50 + i] * 10))) for i in range(2)]
    short = [asyncio.create_task(bench.infer(crops(i))) for i in range(3)]
    await asyncio.sleep(0.05)
    bench.device.gate.set()
    await asyncio.gather(first, *large, *tens, *short)
    order = [value for batch in bench.device.batches for value in batch]
    assert [value for value in order if value >= 100] == [101] * 144 + [102] * 144 + [100] * 144
    assert [value for value in order if 50 <= value < 100] == [50] * 10 + [51] * 10
    assert order.index(2) < 12, "single ones wait for each other, not for 144 crops"
    assert len(order) - 1 - order[::-1].index(51) < 100, "nor do ten crops"


async def test_what_was_begun_is_finished_where_not_all_can_be() -> None:
    """Seven requests of 144 crops of 2 ms each, in a second: equal shares would answer none."""
    bench = Bench(max_batch=1)
    bench.device.pause = 0.002
    work = [bench.infer(crops(*[i] * 144), 1.0) for i in range(7)]
    answers = await asyncio.gather(*work, return_exceptions=True)
    assert any(isinstance(each, Answer) for each in answers)
    begun = {value for batch in bench.device.batches for value in batch}
    lost = [i for i in begun if not isinstance(answers[i], Answer)]
    assert len(lost) <= 1


async def test_a_batch_is_filled_by_whoever_has_more() -> None:
    bench = Bench(max_batch=32)
    bench.device.gate.clear()
    first = asyncio.create_task(bench.infer(crops(9)))
    await asyncio.sleep(0.01)
    sizes = [144, 1, 1, 1]
    work = [asyncio.create_task(bench.infer(crops(*[i] * n))) for i, n in enumerate(sizes)]
    await asyncio.sleep(0.01)
    bench.device.gate.set()
    await first
    for i, answer in enumerate(await asyncio.gather(*work)):
        assert values(answer) == [i] * sizes[i]
    assert [len(batch) for batch in bench.device.batches] == [1, 32, 32, 32, 32, 19]
    assert {1, 2, 3} <= set(bench.device.batches[1])


async def test_crops_of_different_shapes_never_share_a_batch() -> None:
    bench = Bench(max_batch=8)
    bench.device.gate.clear()
    work = [asyncio.create_task(bench.infer(crops(i, side=2 + i % 3))) for i in range(20)]
    await asyncio.sleep(0.05)
    bench.device.gate.set()
    for i, answer in enumerate(await asyncio.gather(*work)):
        assert values(answer) == [i]
    assert all(len({value % 3 for value in batch}) == 1 for batch in bench.device.batches)


async def test_a_client_that_left_is_dropped_before_the_device() -> None:
    bench = Bench(max_batch=1)
    bench.device.gate.clear()
    first = asyncio.create_task(bench.infer(crops(1)))
    gone = asyncio.create_task(bench.infer(crops(2, 3)))
    last = asyncio.create_task(bench.infer(crops(4)))
    await asyncio.sleep(0.05)
    gone.cancel()
    await asyncio.sleep(0.01)
    assert bench.admission.in_use == 2
    bench.device.gate.set()
    assert values(await first) == [1]
    assert values(await last) == [4]
    assert bench.device.batches == [[1], [4]]
    assert bench.log.reasons == {"cancelled": 1}


async def test_a_deadline_is_kept_while_the_device_is_busy() -> None:
    bench = Bench(max_batch=1)
    bench.device.gate.clear()
    first = asyncio.create_task(bench.infer(crops(1)))
    await asyncio.sleep(0.01)
    started = perf_counter()
    with pytest.raises(DeadlineExceeded):
        await bench.infer(crops(2), seconds=0.05)
    assert 0.04 < perf_counter() - started < 5
    bench.device.gate.set()
    await first
    assert bench.device.batches == [[1]]
    assert bench.log.reasons == {"expired": 1}
    assert bench.log.now == bench.admission.in_use == 0


async def test_admission_just_below_at_and_above() -> None:
    bench = Bench(capacity=10)
    bench.device.gate.clear()
    first = asyncio.create_task(bench.infer(crops(*range(9))))
    await asyncio.sleep(0)
    with pytest.raises(Overloaded) as refused:
        await bench.infer(crops(1, 2))
    assert refused.value.retry_after
    tenth = asyncio.create_task(bench.infer(crops(9)))
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await bench.infer(crops(10))
    bench.device.gate.set()
    await asyncio.gather(first, tenth)
    assert values(await bench.infer(crops(11))) == [11]


async def test_a_request_larger_than_the_queue_is_served_alone() -> None:
    bench = Bench(capacity=10)
    assert len(values(await bench.infer(crops(*range(25))))) == 25
    with bench.admission.acquire(1), pytest.raises(Overloaded):
        bench.admission.acquire(25)


async def test_a_permit_carries_no_more_than_it_says() -> None:
    bench = Bench()
    with bench.admission.acquire(1) as permit, pytest.raises(ValueError, match="permit"):
        await bench.batcher.infer(crops(1, 2), permit, perf_counter() + 1, bench.deadlines)


async def test_a_device_that_fails_fails_only_the_guilty() -> None:
    bench = Bench(max_batch=8)
    bench.device.poison = 13
    bench.device.gate.clear()
    first = asyncio.create_task(bench.infer(crops(7)))
    await asyncio.sleep(0.01)
    bad = asyncio.create_task(bench.infer(crops(1, 13)))
    good = [asyncio.create_task(bench.infer(crops(i, i))) for i in range(3)]
    await asyncio.sleep(0.01)
    bench.device.gate.set()
    with pytest.raises(Internal):
        await bad
    answers = await asyncio.gather(first, *good)
    assert [values(answer) for answer in answers] == [[7], [0, 0], [1, 1], [2, 2]]
    assert bench.log.reasons == {"failed": 2, "retried": 1}
    assert len(bench.device.batches[1]) == 8
    assert bench.log.now == bench.admission.in_use == 0


async def test_close_finishes_what_was_accepted() -> None:
    bench = Bench(max_batch=1)
    bench.device.gate.clear()
    work = [asyncio.create_task(bench.infer(crops(i))) for i in range(5)]
    await asyncio.sleep(0.01)
    closing = asyncio.create_task(bench.batcher.close())
    await asyncio.sleep(0.01)
    with pytest.raises(NotReady):
        await bench.infer(crops(9))
    bench.device.gate.set()
    await closing
    assert [values(await task) for task in work] == [[i] for i in range(5)]


REQUESTS = st.lists(
    st.tuples(
        st.integers(1, 12),  # crops
        st.sampled_from(["stay", "stay", "stay", "leave", "expire"]),
        st.integers(0, 3),  # turns of the event loop before it arrives
    ),
    min_size=1,
    max_size=25,
)


@settings(max_examples=60, deadline=None)
@given(REQUESTS, st.integers(1, 9), st.integers(1, 3), st.sets(st.integers(0, 24), max_size=2))
def test_every_accepted_request_is_answered_once_with_its_own(
    requests: list[tuple[int, str, int]], max_batch: int, concurrency: int, poisoned: set[int]
) -> None:
    async def scenario() -> None:
        bench = Bench(concurrency=concurrency, max_batch=max_batch, capacity=60)
        bench.device.poison = 255 if poisoned else None

        async def one(number: int, count: int, fate: str) -> list[int] | ZooError:
            last = 255 if number in poisoned else number
            what = crops(*[number] * (count - 1), last)
            try:
                return values(await bench.infer(what, 0.001 if fate == "expire" else 10))
            except ZooError as error:
                return error

        tasks = []
        for number, (count, fate, turns) in enumerate(requests):
            tasks.append(asyncio.create_task(one(number, count, fate)))
            for _ in range(turns):
                await asyncio.sleep(0)
            if fate == "leave":
                tasks[-1].cancel()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        for number, (answer, (count, fate, _)) in enumerate(zip(answers, requests, strict=True)):
            if isinstance(answer, list):
                assert answer == [number] * count
            elif isinstance(answer, Internal):
                assert number in poisoned
            elif isinstance(answer, DeadlineExceeded):
                assert fate == "expire"
            elif isinstance(answer, asyncio.CancelledError):
                assert fate == "leave"
            else:
                assert isinstance(answer, Overloaded)
        await bench.batcher.close()
        bench.pool.close()
        assert bench.log.now == bench.admission.in_use == bench.admitted == 0

    asyncio.run(scenario())


async def test_a_fault_while_a_batch_is_formed_costs_no_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench()
    form = bench.batcher._form
    faults = [MemoryError()]

    def faulty() -> object:
        if faults:
            raise faults.pop()
        return form()

    monkeypatch.setattr(bench.batcher, "_form", faulty)
    assert values(await bench.infer(crops(1))) == [1]
    assert values(await bench.infer(crops(2))) == [2]
    await bench.batcher.close()
