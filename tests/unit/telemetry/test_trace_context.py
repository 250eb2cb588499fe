"""The trace that a request says it belongs to, in the log of both ports."""

from __future__ import annotations

import pytest

from service.telemetry.trace_context import trace_id_of
from tests.harness.traceparents import INVALID, TRACE, VALID


@pytest.mark.parametrize("given", VALID)
def test_valid(given: str) -> None:
    assert trace_id_of([given]) == TRACE


@pytest.mark.parametrize("given", INVALID)
def test_invalid(given: str) -> None:
    assert trace_id_of([given]) is None


def test_there_is_exactly_one() -> None:
    assert trace_id_of([]) is None
    assert trace_id_of([VALID[0], VALID[0]]) is None
