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
"""How long such a line waits at most."""
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
    """Writes lines of the event loop a moment later, many in one go.

    Between two pieces of other work, to write one takes several times as long: the processor's
    caches are full of the network's weights. Warnings are written at once, and all that waits
    with them; a process that is killed loses the lines of its last `DELAY_S`.
    """

    def __init__(self, target: logging.Handler) -> None:
        super().__init__(_MOST_WAITING, logging.WARNING, target)
        self._timer: asyncio.TimerHandle | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the record; without an event loop to remember it, write it."""
        super().emit(record)
        if self.buffer and self._timer is None:
            try:
                self._timer = asyncio.get_running_loop().call_later(DELAY_S, self._due)
            except RuntimeError:
                self.flush()

    def _due(self) -> None:
        self._timer = None
        self.flush()

    def flush(self) -> None:
        """Write what waits; what comes after the end of logging is not kept for ever."""
        super().flush()
        if self.target is None:
            self.buffer.clear()


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
