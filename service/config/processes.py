"""What processes of one machine share: who of them lives, and who has a folder alone."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def alone(lock: Path) -> Iterator[None]:
    """Hold a lock file, which one process has at a time; wait for it. Raises OSError.

    The system unlocks for a process that dies.
    """
    with lock.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def identity(pid: int) -> str:
    """Return who a process is, as ``PID-TICKS``; empty where there is none that runs.

    Ids are used again, so the time of its start belongs to it, in ticks since the system started;
    it is 0 where the system has no /proc. One that ended and is not waited for yet does not run.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return "" if Path("/proc/self").exists() or not _exists(pid) else f"{pid}-0"
    return "" if fields[0] == b"Z" else f"{pid}-{fields[19].decode()}"


def lives(identity_then: str) -> bool:
    """Return whether the process still runs that `identity` called so."""
    pid = identity_then.partition("-")[0]
    return pid.isdigit() and identity(int(pid)) == identity_then


def _exists(pid: int) -> bool:
    with suppress(PermissionError):
        try:
            os.kill(pid, 0)
        except (ProcessLookupError, OverflowError):
            return False
    return True
