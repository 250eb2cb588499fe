"""Sets up the log: one line per event, for people (`console`) or for machines (`json`)."""

from __future__ import annotations

import logging
import sys
from typing import Any

from pythonjsonlogger.json import JsonFormatter

from service.config.settings import Settings

ROOT = "zoo"
ACCESS = "zoo.access"
"""The logger that writes one line per request."""

_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


class ConsoleFormatter(logging.Formatter):
    """Writes ``time LEVEL logger message key=value …``; quotes values, so none can forge a line."""

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


def configure(settings: Settings) -> None:
    """Send the loggers below `zoo` to standard output; BentoML's and uvicorn's are left alone."""
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
    # BentoML's configuration disables every logger that existed before it
    for each in logging.root.manager.loggerDict.values():
        if isinstance(each, logging.Logger):
            each.disabled = False
