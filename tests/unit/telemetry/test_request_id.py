"""The id of a request: a client's, where it stays within its place, or one of our own."""

from __future__ import annotations

import re

import pytest

from service.telemetry.request_id import request_id_of


@pytest.mark.parametrize("given", ["a", "7f3e-21", "user@host:/x+y=z._", "x" * 128])
def test_a_harmless_id_is_taken(given: str) -> None:
    assert request_id_of(given) == given


@pytest.mark.parametrize(
    "given",
    ["", "x" * 129, "two words", "a\n", "a\nERROR forged", "\na", "a\tb", 'a"b', "a;b", "ü", "a\0"],
)
def test_any_other_is_replaced(given: str) -> None:
    made = request_id_of(given)
    assert re.fullmatch("[0-9a-f]{32}", made)
    assert request_id_of(given) != made
