"""The trace that a request says it belongs to, in the log of both ports."""

from __future__ import annotations

import pytest

from service.telemetry.trace_context import trace_id_of

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
VALID = [
    f"00-{TRACE}-{SPAN}-01",
    f"00-{TRACE}-{SPAN}-ff",
    f"01-{TRACE}-{SPAN}-00",
    f"cc-{TRACE}-{SPAN}-01-what-the-future-will-be-like",
]
INVALID = [
    "",
    "00",
    f"ff-{TRACE}-{SPAN}-01",
    f"00-{'0' * 32}-{SPAN}-01",
    f"00-{TRACE}-{'0' * 16}-01",
    f"00-{TRACE.upper()}-{SPAN}-01",
    f"00-{TRACE[:-1]}-{SPAN}-01",
    f"00-{TRACE}a-{SPAN}-01",
    f"00-{TRACE}-{SPAN}-0",
    f"00-{TRACE}-{SPAN}-01-more",
    f"01-{TRACE}-{SPAN}-01more",
    f"00-{TRACE}-{SPAN}-01\n",
    f" 00-{TRACE}-{SPAN}-01",
    f"00_{TRACE}_{SPAN}_01",
    f"01-{TRACE}-{SPAN}-01-{'x' * 600}",
]


@pytest.mark.parametrize("given", VALID)
def test_valid(given: str) -> None:
    assert trace_id_of([given]) == TRACE


@pytest.mark.parametrize("given", INVALID)
def test_invalid(given: str) -> None:
    assert trace_id_of([given]) is None


def test_there_is_exactly_one() -> None:
    assert trace_id_of([]) is None
    assert trace_id_of([VALID[0], VALID[0]]) is None
