"""Logging: one line per event, for people (`console`) or for machines (`json`)."""

from __future__ import annotations

import logging
import sys
from typing import Any

from pythonjsonlogger.json import JsonFormatter

from service.config.settings import Settings
from service.telemetry.deferred import Gathering, gathering

ROOT = "zoo"
ACCESS = "zoo.access"
"""The logger of one line per request."""

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


class Gathered(logging.Handler):
    """Writes lines when what is counted is written, one after the other: see `deferred`.

    A warning is written at once, and all that waits with it.
    """

    def __init__(self, target: logging.Handler, gathering: Gathering) -> None:
        super().__init__()
        self._target = target
        self._gathering = gathering
        self._ended = False

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record, now or a moment later."""
        if self._ended or record.levelno >= logging.WARNING:
            self.flush()
            self._target.handle(record)
        else:
            self._gathering.call(self._target.handle, record)

    def flush(self) -> None:
        """Write what waits."""
        self._gathering.flush()

    def close(self) -> None:
        """Logging ends, or somebody sets it up anew: from now on nothing waits."""
        self.flush()
        self._ended = True
        super().close()


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
    access.handlers[:] = [Gathered(handler, gathering)]
    access.propagate = False
    # BentoML's configuration silences every logger of what was imported before it
    for each in logging.root.manager.loggerDict.values():
        if isinstance(each, logging.Logger):
            each.disabled = False
