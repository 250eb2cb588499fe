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
        permit.computed(crops)
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
        permit.computed(1)
        permit.release()
    for _ in range(40):  # nobody comes for a while, then twenty at once: nothing is known of them
        clock.now += 3
        for permit in [admission.acquire(1, 0.1) for _ in range(20)]:
            clock.now += 0.001
            permit.computed(1)
            permit.release()


def test_the_crops_of_large_requests_tell_the_pace_before_any_is_answered() -> None:
    clock = Clock()
    admission = Admission(10_000, lambda crops: None, threads=2, clock=clock)
    first = admission.acquire(144, 12)
    rest = [admission.acquire(144, 12) for _ in range(4)]
    for _ in range(72):
        clock.now += 0.01
        first.computed(1)
    # 648 crops are left and 144 come: 7.9 s, or 11.1 s with caution
    with pytest.raises(Overloaded, match="648 crops are waiting, with which this takes about 11"):
        admission.acquire(144, 11)
    rest.append(admission.acquire(144, 11.2))
    for permit in (first, *rest):
        permit.release()
    assert admission.in_use == 0


def test_what_its_model_takes_is_believed_while_nothing_was_seen() -> None:
    clock = Clock()
    admission = Admission(10_000, lambda crops: None, threads=2, clock=clock)
    assert admission.acquire(144, 0.1, expected=lambda: 0.01)  # alone: it may try
    with pytest.raises(Overloaded, match="takes about 4"):
        admission.acquire(144, 4, expected=lambda: 0.01)
    assert admission.acquire(144, 4.1, expected=lambda: 0.01)


def test_a_load_measured_on_a_busy_machine_is_not_believed_against_the_last_rush() -> None:
    clock = Clock()
    admission = Admission(10_000, lambda crops: None, threads=2, clock=clock)
    first = [admission.acquire(144), admission.acquire(144)]
    for permit in first:
        clock.now += 1
        permit.computed(100)
    with pytest.raises(Overloaded):  # at 10 ms each
        admission.acquire(1440, 5)
    for permit in first:
        permit.release()
    clock.now += 60
    alone = admission.acquire(144, 12, expected=lambda: 0.05)
    admission.acquire(144, 12, expected=lambda: 0.05)
    assert admission.acquire(1, 0.1, expected=lambda: 0.05)
    alone.release()


def test_single_pictures_are_not_judged_by_large_requests_that_they_go_between() -> None:
    clock = Clock()
    admission = Admission(10_000, lambda crops: None, threads=2, clock=clock)
    large = [admission.acquire(144) for _ in range(7)]
    clock.now += 1
    large[0].computed(100)
    admission.acquire(1, 0.2)  # 908 crops would take nine seconds
    pictures = admission.acquire(32, 1, size=1)
    with pytest.raises(Overloaded):
        admission.acquire(32, 1)
    pictures.release()


def test_large_requests_know_that_single_ones_go_between() -> None:
    clock = Clock()
    admission = Admission(10_000, lambda crops: None, threads=2, clock=clock)
    first = admission.acquire(144)
    singles = [admission.acquire(1) for _ in range(400)]
    clock.now += 1
    first.computed(100)
    # 44 crops and 144 of its own, of which a fifth of the engine computes 20 a second
    with pytest.raises(Overloaded, match="takes about 8"):
        admission.acquire(144, 8)
    for permit in singles:
        permit.release()
    admission.acquire(144, 3)


def test_what_is_computed_after_its_answer_changes_no_count() -> None:
    admission = Admission(10, lambda crops: None, threads=2, clock=Clock())
    late = admission.acquire(4)
    late.computed(1)
    late.release()
    late.computed(3)
    for permit in [admission.acquire(5), admission.acquire(5)]:
        permit.release()
    assert admission.in_use == sum(admission._left) == sum(admission._standing) == 0


def test_those_who_left_do_not_count_as_answered() -> None:
    clock = Clock()
    admission = Admission(10_000, lambda crops: None, threads=2, clock=clock)
    rush(admission, clock, 200, 1, 0.01)
    for permit in [admission.acquire(1) for _ in range(500)]:
        permit.release()
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
        permit.computed(1)
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
