"""Workers that are stopped, or whose event loop does not turn, are replaced; others are not."""

from __future__ import annotations

from service.supervision.restarts import Silence


def test_silence_is_counted_in_looks() -> None:
    silence = Silence()
    assert [silence.looked() for _ in range(3)] == [1, 2, 3]
    silence.broken()
    assert silence.looked() == 1
