"""A record of the log is one line, whatever a client put into it."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from service.telemetry.logs import ConsoleFormatter


def line(message: str, **values: Any) -> str:
    record = logging.LogRecord("zoo.http", logging.INFO, "", 0, message, (), None)
    record.__dict__.update(values)
    return ConsoleFormatter().format(record)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("plain", "plain"),
        (7, "7"),
        ("two words", "'two words'"),
        ("a\nb", r"'a\nb'"),
        ("a\rERROR", r"'a\rERROR'"),
        ("\x1b[31mred", r"'\x1b[31mred'"),
        ("ü", r"'\xfc'"),
        ("a\u2028b", r"'a\u2028b'"),
    ],
)
def test_values_stay_on_their_line(value: object, shown: str) -> None:
    text = line("request", path=value)
    assert text.endswith(f" INFO zoo.http request path={shown}")
    assert text.isprintable()


def test_so_do_messages() -> None:
    text = line("refused\n2026-01-01 ERROR zoo forged")
    assert text.endswith(r"refused\n2026-01-01 ERROR zoo forged")
    assert line("request", path=None).endswith(" request")
