"""The log: a line per request with its ids, nothing of pictures, and nobody can forge a line."""

from __future__ import annotations

import io
import logging

from service.telemetry.logs import ConsoleFormatter


def test_a_message_stays_on_its_line() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(ConsoleFormatter())
    logger = logging.getLogger("zoo.test_logs")
    logger.propagate = False
    logger.addHandler(handler)
    logger.warning("there is no %s: … stays", "x\ny\u2028z", extra={"given": "a\nb c"})
    logger.removeHandler(handler)
    (line,) = stream.getvalue().splitlines()
    assert line.endswith(r"there is no x\ny\u2028z: \u2026 stays given='a\nb c'")
