"""How long the place of a worker that has ended stays empty."""

from __future__ import annotations

from service.supervision.restarts import (
    LONGEST_SECONDS,
    MOST_AT_START,
    MOST_LATER,
    STEADY_SECONDS,
    Backoff,
    Patience,
)


def test_the_first_is_replaced_at_once_and_a_sound_one_always() -> None:
    backoff = Backoff()
    assert [backoff.seconds(STEADY_SECONDS) for _ in range(9)] == [0.0] * 9
    assert backoff.seconds(1.0) == 0.0
    assert backoff.seconds(1.0) == 1.0
    assert backoff.seconds(STEADY_SECONDS) == 0.0
    assert backoff.seconds(1.0) == 0.0


def test_those_that_never_serve_wait_ever_longer() -> None:
    backoff = Backoff()
    assert [backoff.seconds(None) for _ in range(4)] == [0.5, 1.0, 2.0, 4.0]
    assert max(backoff.seconds(None) for _ in range(2000)) == LONGEST_SECONDS


def test_patience_is_short_at_the_start_and_longer_once_it_has_served() -> None:
    patience = Patience()
    for _ in range(MOST_AT_START):
        assert not patience.over
        patience.failed()
    assert patience.over
    patience.succeeded()
    for _ in range(MOST_LATER):
        assert not patience.over
        patience.failed()
    assert patience.over
