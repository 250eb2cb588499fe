"""Holds that what lies in tests/unit starts no process and opens no port."""

from __future__ import annotations

import multiprocessing.util
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

_STARTS: tuple[tuple[Any, str], ...] = (
    (subprocess.Popen, "_execute_child"),
    (multiprocessing.util, "spawnv_passfds"),
    *((os, name) for name in ("fork", "forkpty", "posix_spawn", "posix_spawnp", "execv", "execve")),
    (os, "system"),
    (socket.socket, "bind"),
    (socket.socket, "listen"),
)
"""What starts a process or opens a port in the end.

An audit hook would hear all of it, but one in Python lets another thread run while a trace function
is being installed, which Python 3.11 answers with an error: coverage could not be measured.
"""


@contextmanager
def armed() -> Iterator[None]:
    """Refuse processes and ports to the block. What is refused raises RuntimeError."""
    patches = [
        mock.patch.object(owner, name, _refusing(f"{owner.__name__}.{name}", getattr(owner, name)))
        for owner, name in _STARTS
        if hasattr(owner, name)
    ]
    for patch in patches:
        patch.start()
    try:
        yield
    finally:
        for patch in reversed(patches):
            patch.stop()


def _refusing(what: str, original: Callable[..., Any]) -> Callable[..., Any]:
    def refuse(*arguments: Any, **options: Any) -> Any:
        if _importing():
            return original(*arguments, **options)
        raise RuntimeError(f"a unit test may not do that: {what}")

    return refuse


def _importing() -> bool:
    """Return whether a module is being imported: some look for libraries, or try IPv6, once."""
    frame = sys._getframe()
    while (outer := frame.f_back) is not None:
        if outer.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = outer
    return False
