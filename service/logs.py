"""Logging: one line per event, for people (`console`) or for machines (`json`)."""

from __future__ import annotations

import asyncio
import logging
import sys
from logging.handlers import MemoryHandler
from typing import Any

from pythonjsonlogger.json import JsonFormatter

from service.settings import Settings

ROOT = "zoo"
ACCESS = "zoo.access"
"""The logger of one line per request."""
DELAY_S = 0.1
"""How long such a line waits, while the event loop is not held up."""
_MOST_WAITING = 1000

_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


class ConsoleFormatter(logging.Formatter):
    """``time LEVEL logger message key=value …``; values are quoted, so nobody can forge a line."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s", "%Y-%m-%dT%H:%M:%S%z")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        if not record.message.isprintable():
            record.message = record.message.encode("unicode_escape").decode()
        return super().formatMessage(record)

    def format(self, record: logging.LogRecord) -> str:
        extra = "".join(
            f" {key}={_shown(value)}"
            for key, value in record.__dict__.items()
            if key not in _STANDARD and value is not None
        )
        return super().format(record) + extra


def _shown(value: Any) -> str:
    text = str(value)
    return text if text.isascii() and text.isprintable() and " " not in text else ascii(text)


class Gathered(MemoryHandler):
    """Writes lines of the event loop a moment later, one after the other.

    Between two pieces of other work, to write one takes several times as long: the processor's
    caches are full of the network's weights. A warning is written at once, and all that waits here
    with it. A process that ends without a word loses what waits.
    """

    def __init__(self, target: logging.Handler) -> None:
        super().__init__(_MOST_WAITING, logging.WARNING, target)
        self._writer = target
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the record where an event loop remembers it, else write it."""
        if self.target is None:  # closed, by the end of logging or by whoever set it up anew
            self._writer.handle(record)
            return
        super().emit(record)
        if self.buffer:
            self._remember()

    def _remember(self) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self.flush()
            return
        if self._timer is None or self._loop is not loop:
            self._loop, self._timer = loop, loop.call_later(DELAY_S, self._due)

    def _due(self) -> None:
        self._timer = None
        self.flush()


def configure(settings: Settings) -> None:
    """Send the loggers below `zoo` to standard output; BentoML's and uvicorn's stay theirs."""
    handler = logging.StreamHandler(sys.stdout)
    if settings.log_format == "json":
        handler.setFormatter(
            JsonFormatter(
                "{asctime}{levelname}{name}{message}",
                style="{",
                datefmt="%Y-%m-%dT%H:%M:%S%z",
                rename_fields={"asctime": "time", "levelname": "level", "name": "logger"},
            )
        )
    else:
        handler.setFormatter(ConsoleFormatter())
    logger = logging.getLogger(ROOT)
    logger.handlers[:] = [handler]
    logger.propagate = False
    logger.setLevel(settings.log_level)
    access = logging.getLogger(ACCESS)
    for former in access.handlers:
        former.close()
    access.handlers[:] = [Gathered(handler)]
    access.propagate = False
    # BentoML's configuration silences every logger of what was imported before it
    for each in logging.root.manager.loggerDict.values():
        if isinstance(each, logging.Logger):
            each.disabled = False
