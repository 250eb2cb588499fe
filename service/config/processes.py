"""Tells which processes of this machine live, and lets one at a time hold a lock file."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def alone(lock: Path) -> Iterator[None]:
    """Hold the file ``lock`` while the ``with`` block runs; wait while another process holds it.

    The system releases the lock of a process that dies. Raises OSError.
    """
    with lock.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def identity(pid: int) -> str:
    """Return a name that only this process ever has, ``PID-TICKS``; empty where none runs as `pid`.

    The system gives the same pid out again, so TICKS is the time of the process' start, in clock
    ticks since the system started; it is 0 where the system has no /proc. A zombie does not run.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return "" if Path("/proc/self").exists() or not _exists(pid) else f"{pid}-0"
    return "" if fields[0] == b"Z" else f"{pid}-{fields[19].decode()}"


def lives(identity_then: str) -> bool:
    """Return whether the process still runs to which `identity` gave this name."""
    pid = identity_then.partition("-")[0]
    return pid.isascii() and pid.isdecimal() and identity(int(pid)) == identity_then


def _exists(pid: int) -> bool:
    with suppress(PermissionError):
        try:
            os.kill(pid, 0)
        except (ProcessLookupError, OverflowError):
            return False
    return True
