"""The log: a line per request with its ids, nothing of pictures, and nobody can forge a line."""

from __future__ import annotations

import asyncio
import io
import logging
from collections.abc import Iterator

import pytest

from service.telemetry.deferred import DELAY_S, Gathering
from service.telemetry.logs import ConsoleFormatter, Gathered


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


@pytest.fixture
def gathered() -> Iterator[tuple[logging.Logger, io.StringIO, Gathering]]:
    """A logger whose lines wait for each other, what it has written, and what they wait in."""
    stream = io.StringIO()
    logger = logging.getLogger("zoo.test_gathered")
    logger.propagate = False
    logger.setLevel(logging.INFO)
    gathering = Gathering()
    handler = Gathered(logging.StreamHandler(stream), gathering)
    logger.addHandler(handler)
    yield logger, stream, gathering
    logger.removeHandler(handler)
    handler.close()


async def written_as(stream: io.StringIO, expected: str) -> None:
    """Wait until this and nothing else is there."""
    for _ in range(1000):
        if stream.getvalue() == expected:
            return
        await asyncio.sleep(DELAY_S / 10)
    raise AssertionError(f"waited in vain; there is {stream.getvalue()!r}")


def test_lines_of_the_event_loop_are_written_together_and_soon(
    gathered: tuple[logging.Logger, io.StringIO, Gathering],
) -> None:
    logger, stream, gathering = gathered

    async def requests() -> None:
        gathering.begin()
        logger.info("first")
        logger.info("second")
        assert stream.getvalue() == ""
        await written_as(stream, "first\nsecond\n")
        logger.info("third")  # and again
        await written_as(stream, "first\nsecond\nthird\n")

    asyncio.run(requests())


def test_a_warning_and_lines_without_an_event_loop_do_not_wait(
    gathered: tuple[logging.Logger, io.StringIO, Gathering],
) -> None:
    logger, stream, gathering = gathered
    logger.info("alone")
    assert stream.getvalue() == "alone\n"

    async def request() -> None:
        gathering.begin()
        logger.info("waits")
        logger.warning("hurries")

    asyncio.run(request())
    assert stream.getvalue() == "alone\nwaits\nhurries\n"


def test_lines_after_the_end_of_logging_are_written_too(
    gathered: tuple[logging.Logger, io.StringIO, Gathering],
) -> None:
    logger, stream, gathering = gathered

    async def requests() -> None:
        gathering.begin()
        logger.info("before")
        for handler in logger.handlers:
            handler.close()  # as logging.config.dictConfig does
        logger.info("after")
        assert stream.getvalue() == "before\nafter\n"

    asyncio.run(requests())


def test_another_event_loop_remembers_its_own_lines(
    gathered: tuple[logging.Logger, io.StringIO, Gathering],
) -> None:
    logger, stream, gathering = gathered

    async def request(expected: str) -> None:
        gathering.begin()
        logger.info("line")
        await written_as(stream, expected)

    asyncio.run(request(""))  # the loop ends before its timer
    asyncio.run(request("line\nline\n"))
