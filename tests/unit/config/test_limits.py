"""Values at the edge of what a setting may be."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from service.config.settings import Settings


@pytest.mark.parametrize("value", [0, 1000, 30_000, 3_600_000])
def test_times_after_which_a_worker_hangs(value: int) -> None:
    assert Settings(hang_ms=value).hang_ms == value


@pytest.mark.parametrize("value", [-1, 1, 500, 999, 3_600_001])
def test_pauses_that_a_busy_machine_has_are_no_hangs(value: int) -> None:
    with pytest.raises(ValidationError, match="hang_ms"):
        Settings(hang_ms=value)


@pytest.mark.parametrize(
    ("given", "compared"),
    [
        ("Zoo.Example", "zoo.example"),
        ("zoo.example.", "zoo.example"),
        ("*.Zoo.Example", "*.zoo.example"),
        ("192.0.2.7", "192.0.2.7"),
        ("192.0.2.7/24", "192.0.2.0/24"),
        ("[2001:DB8::1]", "2001:db8::1"),
        ("*", "*"),
    ],
)
def test_hosts_are_compared_as_browsers_send_them(given: str, compared: str) -> None:
    assert Settings(allowed_hosts=(given,)).allowed_hosts == (compared,)
