"""Holds that what lies in tests/unit starts no process and listens on no socket."""

from __future__ import annotations

import sys
from typing import Any

EVENTS = frozenset({"subprocess.Popen", "os.posix_spawn", "os.fork", "os.exec", "socket.bind"})
"""What Python's audit hooks call the start of a process, and the opening of a port."""


class Guard:
    """Refuses processes and ports to the test that runs while it is armed."""

    def __init__(self) -> None:
        self.armed = False
        sys.addaudithook(self._hear)  # there is no way to remove one

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.armed and event in EVENTS and not _importing():
            raise RuntimeError(f"a unit test may not do that: {event} {arguments[:2]}")


def _importing() -> bool:
    """Whether a module is being imported: some look for libraries, or try IPv6, once."""
    frame = sys._getframe()
    while (outer := frame.f_back) is not None:
        if outer.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = outer
    return False
