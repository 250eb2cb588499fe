"""What the service writes to while it runs, tried before anything is started.

The counters of metrics are files mapped into memory. On a full disk nobody hears of a failed write
to them: the process is killed (SIGBUS). So room for them is taken first, elsewhere if need be, and
kept: the disk may fill later, and the process that takes a dead worker's place needs none.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from service.config.settings import PREFIX, InvalidSettingsError, Settings
from service.telemetry import multiprocess, value_files

logger = logging.getLogger("zoo.scratch")

LOCK = ".zoo.lock"
_held: list[int] = []
"""Locked files: open as long as this process lives, and in none that it starts."""
COUNTERS = "PROMETHEUS_MULTIPROC_DIR"
COUNTERS_BYTES = 8 * 1024 * 1024
"""Per worker; each begins with five files of 1 MB, and one of 0.1 MB for each version."""


class NoRoomError(Exception):
    """Nothing can be written anywhere; the message is one line."""


def hold(home: Path) -> None:
    """Have this folder alone until this process ends, however it does. Raises InvalidSettingsError.

    BentoML empties the folder of metrics in it at start, be it another service's that runs. Who
    cannot write here keeps nothing here, and needs no lock.
    """
    if _held:
        return
    try:
        home.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(home / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        other = os.pread(descriptor, 20, 0).decode(errors="replace").strip()
        os.close(descriptor)
        raise InvalidSettingsError(
            f"BENTOML_HOME={home}: another service runs with it"
            f"{f' (process {other})' if other.isdigit() else ''}, and each needs its own"
        ) from None
    except OSError:  # a file system without locks
        os.close(descriptor)
        return
    with suppress(OSError):  # on a full disk nobody reads who we are
        os.pwrite(descriptor, f"{os.getpid()}".ljust(20).encode(), 0)
    _held.append(descriptor)


def counters(asked: Path, count: int) -> Path:
    """A folder with room for the counters of so many workers, and their files: ``asked`` if it has.

    Raises NoRoomError.
    """
    size = (count + 1) * COUNTERS_BYTES
    failures = []
    for folder in _candidates(asked):
        try:
            _try(folder, size)
            multiprocess.prepare(folder, count)
            value_files.prepare(folder, count)
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
            shutil.rmtree(folder, ignore_errors=True)


def _try(folder: Path, size: int) -> None:
    with tempfile.TemporaryFile(dir=folder) as file:
        value_files.reserve(file.fileno(), size)
