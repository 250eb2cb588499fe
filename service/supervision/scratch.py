"""Finds and reserves the folders that the service writes to, before anything is started.

The counters of metrics are files mapped into memory: a write to one on a full disk kills the
process (SIGBUS). So their room is reserved beforehand, in another folder if need be, and kept: the
disk may fill later, and a process that replaces a dead worker needs no new room.
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
"""Descriptors of locked files, which stay open until this process ends and are not inherited."""
COUNTERS = "PROMETHEUS_MULTIPROC_DIR"
"""The environment variable with the folder of the counters."""
COUNTERS_BYTES = 8 * 1024 * 1024
"""The room that each worker must find: it begins with five files of 1 MB, and one of 0.1 MB for
each version."""


class NoRoomError(Exception):
    """No folder has room for the counters; the message is one line."""


def hold(home: Path) -> None:
    """Lock the folder ``home`` until this process ends, in whatever way.

    At start BentoML empties the folder of metrics in it, even that of another service which runs.
    A process that cannot write to ``home`` keeps nothing there and needs no lock. Raises
    InvalidSettingsError where another service has it.
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
    with suppress(OSError):  # on a full disk the next one's message lacks our process id
        os.pwrite(descriptor, f"{os.getpid()}".ljust(20).encode(), 0)
    _held.append(descriptor)


def counters(preferred: Path, count: int) -> Path:
    """Make the counters' files for ``count`` workers, and return their folder.

    That is ``preferred`` where it has room, else a new folder in memory or among temporary files.
    Raises NoRoomError.
    """
    size = (count + 1) * COUNTERS_BYTES
    failures = []
    for folder in _candidates(preferred):
        try:
            _check_room(folder, size)
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
    """Log an error where clients may load and unload models but the folder of the desired state
    cannot be written.
    """
    if not settings.management:
        return
    try:
        settings.state.mkdir(parents=True, exist_ok=True)
        _check_room(settings.state, 4096)
    except OSError as error:
        logger.error(
            "%sSTATE: %s cannot be written: %s; clients cannot load or unload models",
            PREFIX,
            settings.state,
            error.strerror,
        )


def _candidates(preferred: Path) -> Iterator[Path]:
    yield preferred
    for parent in (Path("/dev/shm"), Path(tempfile.gettempdir())):  # noqa: S108
        with suppress(OSError):
            folder = Path(tempfile.mkdtemp(prefix="zoo-metrics-", dir=parent))
            yield folder
            shutil.rmtree(folder, ignore_errors=True)


def _check_room(folder: Path, size: int) -> None:
    with tempfile.TemporaryFile(dir=folder) as file:
        value_files.reserve(file.fileno(), size)
