"""Admission: what could not be answered in time is refused at once, by what the rush shows."""

from __future__ import annotations

import pytest

from service.engine.admission import Admission
from service.errors import DeadlineExceeded, Overloaded


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def rush(admission: Admission, clock: Clock, count: int, crops: int, pace: float) -> None:
    """Let this many requests wait, and answer them one after the other but for ten."""
    permits = [admission.acquire(crops) for _ in range(count)]
    for permit in permits[:-10]:
        clock.now += crops * pace
        permit.release()


def test_what_could_not_be_answered_in_time_is_refused_at_once() -> None:
    clock = Clock()
    admission = Admission(10_000, lambda crops: None, threads=2, clock=clock)
    rush(admission, clock, 200, 1, 0.01)
    more = [admission.acquire(1) for _ in range(89)]  # 99 now, a second's work with one more
    with pytest.raises(Overloaded, match=r"1\.4 s") as refused:  # by 40 % of caution
        admission.acquire(1, 1.1)
    assert refused.value.retry_after == 1
    admission.acquire(1, 1.5).release()
    assert len(more) + 10 == admission.in_use


def test_a_slow_past_is_forgotten_once_there_is_room() -> None:
    clock = Clock()
    admission = Admission(1000, lambda crops: None, threads=2, clock=clock)
    slow = [admission.acquire(1) for _ in range(48)]
    for permit in slow:
        clock.now += 0.05
        permit.release()
    for _ in range(40):  # nobody comes for a while, then twenty at once: nothing is known of them
        clock.now += 3
        for permit in [admission.acquire(1, 0.1) for _ in range(20)]:
            clock.now += 0.001
            permit.release()


def test_a_few_large_requests_that_end_together_tell_nothing() -> None:
    clock = Clock()
    admission = Admission(10_000, lambda crops: None, threads=2, clock=clock)
    large = [admission.acquire(144) for _ in range(7)]
    clock.now += 9
    for permit in large[:6]:
        permit.release()
        admission.acquire(144, 1.5).release(answered=False)


def test_those_who_left_do_not_count_as_answered() -> None:
    clock = Clock()
    admission = Admission(10_000, lambda crops: None, threads=2, clock=clock)
    rush(admission, clock, 200, 1, 0.01)
    for permit in [admission.acquire(1) for _ in range(500)]:
        permit.release(answered=False)
    with pytest.raises(Overloaded):
        admission.acquire(1, 0.05)


def test_crops_that_wait_for_their_model_are_no_work_of_the_engine() -> None:
    clock = Clock()
    admission = Admission(100, lambda crops: None, threads=1, clock=clock)
    permits = [admission.acquire(1) for _ in range(99)]
    for permit in permits:
        permit.park()
    clock.now += 60  # so long does the load take
    for permit in permits[:49]:
        permit.release()
    permits = permits[49:]
    assert admission.in_use == 50
    with pytest.raises(Overloaded):
        admission.acquire(51)
    for permit in permits:
        permit.resume()
    for permit in permits:
        clock.now += 0.01
        permit.release()
    assert admission.in_use == 0
    held = [admission.acquire(1, 1.0) for _ in range(60)]  # at 10 ms each, not at 60 s
    assert len(held) == 60


@pytest.mark.parametrize("waiting", [0, 10])
def test_who_is_late_already_is_told_so_whoever_else_is_there(waiting: int) -> None:
    admission = Admission(10, lambda crops: None, threads=2, clock=Clock())
    held = [admission.acquire(1) for _ in range(waiting)]
    for seconds in (0.0, -0.001):
        with pytest.raises(DeadlineExceeded, match="before the request was accepted"):
            admission.acquire(1, seconds)
    assert admission.in_use == len(held)
