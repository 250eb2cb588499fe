"""The batch size that is learnt at warm-up."""

from __future__ import annotations

import threading

import pytest

from service.engine.batch_tuning import best, measure


class Device:
    """Takes ``start + size * crop`` seconds for a batch, and ``cliff`` more per crop from 64 on."""

    def __init__(self, start: float, crop: float, cliff: float = 0.0) -> None:
        self.start, self.crop, self.cliff = start, crop, cliff
        self.now = 0.0
        self.sizes: list[int] = []

    def __call__(self, size: int) -> None:
        self.sizes.append(size)
        self.now += self.start + size * (self.crop + (self.cliff if size >= 64 else 0))

    def clock(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("device", "most", "expected"),
    [
        (Device(0.0, 0.005), 32, 1),  # a CPU: nothing is gained
        (Device(0.0001, 0.005), 32, 1),  # hardly anything
        (Device(0.002, 0.0001), 32, 32),  # a GPU: as large as may be
        (Device(0.002, 0.0001), 24, 24),  # also where that is no power of two
        (Device(0.002, 0.0001, 0.01), 256, 32),
        (Device(0.002, 0.0001), 1, 1),
    ],
)
def test_the_best_size(device: Device, most: int, expected: int) -> None:
    costs = measure(device, most, clock=device.clock)
    assert best(costs) == expected
    assert max(device.sizes) <= most


def test_the_climb_ends_early_where_it_does_not_pay() -> None:
    device = Device(0.0, 0.005)
    measure(device, 256, clock=device.clock, patience=1)
    assert set(device.sizes) == {1, 2}


def test_the_climb_takes_no_longer_than_it_may() -> None:
    device = Device(1.0, 0.001)
    measure(device, 256, clock=device.clock, seconds=9.0)
    assert set(device.sizes) == {1, 2}


def test_a_machine_that_changes_its_speed_changes_nothing() -> None:
    device = Device(0.0, 0.005)

    def run(size: int) -> None:
        device(size)
        device.crop = 0.0025 if len(device.sizes) > 4 else 0.005  # faster once size 2 begins

    assert best(measure(run, 32, clock=device.clock)) == 1


def test_what_saves_too_little_is_not_worth_the_wait() -> None:
    device = Device(0.001, 0.005)
    costs = measure(device, 2, clock=device.clock)
    assert best(costs) == 2
    assert best(costs, 0.85) == 1


def test_a_slice_is_as_many_runs_as_it_takes() -> None:
    device = Device(0.0, 0.004)
    costs = measure(device, 2, clock=device.clock, slice_s=0.01)
    assert costs == pytest.approx({1: 0.004, 2: 0.004})
    assert device.sizes[:4] == [1, 1, 1, 1]
    assert device.sizes.count(1) == 1 + 3 * 3 + 5 * 3
    assert device.sizes.count(2) == 2 + 5 * 2


def test_as_many_threads_run_at_once_as_will_in_service() -> None:
    meeting = threading.Barrier(2)
    sizes: list[int] = []

    def run(size: int) -> None:
        sizes.append(size)
        if len(sizes) > 1:  # the first run is for warming up, and alone
            meeting.wait(timeout=10)  # BrokenBarrierError where nobody comes

    measure(run, 2, at_once=2)
    assert len(sizes) % 2 == 1
    assert set(sizes) == {1, 2}


def test_threads_that_cannot_be_started_are_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started = []
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        started.append(thread)
        if len(started) == 2:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(RuntimeError, match="start"):
        measure(lambda _: None, 2, at_once=2)
    assert len(started) == 2


def test_a_run_that_fails_is_heard_of() -> None:
    def run(size: int) -> None:
        if size == 2:
            raise MemoryError

    with pytest.raises(MemoryError):
        measure(run, 2, at_once=2)
