"""The words between the supervisor and a worker, each a line over a pair of sockets.

The supervisor says `go N` (be worker N), `drain` and `stop`; a worker says `ready`, and `alive`
again and again. When the supervisor ends, in whatever way, the system closes its socket, and the
workers notice.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress

VARIABLE = "IMAGENET_ZOO_CHANNEL"
"""The environment variable with the file descriptor of a worker's socket."""
BEATS = 10
"""How many times in ZOO_HANG_MS, after which a silent worker counts as hanging, a worker says that
it is alive, and the supervisor looks."""
GO, DRAIN, STOP, READY, ALIVE = b"go", b"drain", b"stop", b"ready", b"alive"


def inherited() -> socket.socket | None:
    """Return the worker's socket; None in a process that our supervisor did not start.

    Call it once: it removes the variable from the environment.
    """
    number = os.environ.pop(VARIABLE, "")
    return socket.socket(fileno=int(number)) if number.isdigit() else None


def say(channel: socket.socket, word: bytes) -> None:
    """Send a word; drop it where the other side is gone, or has not read for long."""
    with suppress(OSError):
        channel.send(word + b"\n", socket.MSG_DONTWAIT)


def line(channel: socket.socket) -> bytes:
    """Wait for the next line and return it without its end; empty when the other side is gone."""
    text = b""
    while not text.endswith(b"\n"):
        piece = b""
        with suppress(OSError):
            piece = channel.recv(1)
        if not piece:
            return b""
        text += piece
    return text.rstrip()
