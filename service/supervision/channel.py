"""The words between the supervisor and a worker: lines over a pair of sockets.

The supervisor says `go N` (be worker N), `drain` and `stop`; a worker says `ready`, and `alive`
again and again. When the supervisor is gone, however it ended, its end of the pair is closed, and
workers notice.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress

VARIABLE = "IMAGENET_ZOO_CHANNEL"
"""The environment variable that names a worker's file descriptor."""
BEATS = 10
"""How often a worker says that it is alive in the time (ZOO_HANG_MS) after which its supervisor
thinks that it hangs; and how often the supervisor looks."""
GO, DRAIN, STOP, READY, ALIVE = b"go", b"drain", b"stop", b"ready", b"alive"


def inherited() -> socket.socket | None:
    """The worker's end; None in a process that nobody of ours supervises. Asked once."""
    number = os.environ.pop(VARIABLE, "")
    return socket.socket(fileno=int(number)) if number.isdigit() else None


def say(channel: socket.socket, word: bytes) -> None:
    """Say a word, unless the other side is gone or has long listened to none."""
    with suppress(OSError):
        channel.send(word + b"\n", socket.MSG_DONTWAIT)


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
