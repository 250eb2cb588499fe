"""What the service writes to while it runs, tried before anything is started.

The counters of metrics are files mapped into memory. On a full disk nobody hears of a failed write
to them: the process is killed (SIGBUS). So room for them is taken first, elsewhere if need be.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from service.settings import PREFIX, Settings

logger = logging.getLogger("zoo.folders")

COUNTERS = "PROMETHEUS_MULTIPROC_DIR"
COUNTERS_BYTES = 8 * 1024 * 1024
"""Per worker; each begins with some five files of 1 MB."""


class NoRoomError(Exception):
    """Nothing can be written anywhere; the message is one line."""


def counters(asked: Path, workers: int) -> Path:
    """A folder with room for the counters of so many workers: ``asked`` where it has.

    Raises NoRoomError.
    """
    size = (workers + 1) * COUNTERS_BYTES
    failures = []
    for folder in _candidates(asked):
        try:
            _try(folder, size)
        except OSError as error:
            failures.append(f"{folder}: {error.strerror}")
            continue
        if failures:
            logger.warning("metrics are kept in %s; not possible: %s", folder, "; ".join(failures))
        return folder
    raise NoRoomError(f"no room of {size} bytes for metrics: {'; '.join(failures)}")


def check_state(settings: Settings) -> None:
    """Say so where clients may load and unload models, and the wish could not be written."""
    if not settings.management:
        return
    try:
        settings.state.mkdir(parents=True, exist_ok=True)
        _try(settings.state, 4096)
    except OSError as error:
        logger.error(
            "%sSTATE: %s cannot be written: %s; clients cannot load or unload models",
            PREFIX,
            settings.state,
            error.strerror,
        )


def _candidates(asked: Path) -> Iterator[Path]:
    yield asked
    for parent in (Path("/dev/shm"), Path(tempfile.gettempdir())):  # noqa: S108
        with suppress(OSError):
            folder = Path(tempfile.mkdtemp(prefix="zoo-metrics-", dir=parent))
            yield folder
            folder.rmdir()


def _try(folder: Path, size: int) -> None:
    with tempfile.TemporaryFile(dir=folder) as file:
        os.posix_fallocate(file.fileno(), 0, size)
