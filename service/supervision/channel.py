"""The words between the supervisor and a worker: lines over a pair of sockets.

The supervisor says `go N` (be worker N), `drain` and `stop`; a worker says `ready`. When the
supervisor is gone, however it ended, its end of the pair is closed, and workers notice.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress

VARIABLE = "IMAGENET_ZOO_CHANNEL"
"""The environment variable that names a worker's file descriptor."""
GO, DRAIN, STOP, READY = b"go", b"drain", b"stop", b"ready"


def inherited() -> socket.socket | None:
    """The worker's end; None in a process that nobody of ours supervises. Asked once."""
    number = os.environ.pop(VARIABLE, "")
    return socket.socket(fileno=int(number)) if number.isdigit() else None


def line(channel: socket.socket) -> bytes:
    """Wait for the next line, without its end; empty when the other side is gone."""
    text = b""
    while not text.endswith(b"\n"):
        piece = b""
        with suppress(OSError):
            piece = channel.recv(1)
        if not piece:
            return b""
        text += piece
    return text.rstrip()
