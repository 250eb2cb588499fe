"""Starts a worker process, gives it orders and waits for its end, for the supervisor."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from service.supervision import channel
from service.supervision.restarts import Silence

ROOT = Path(__file__).resolve().parent.parent.parent
_BOOT = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); "
    "from service.supervision.worker import main; main()"
)


class Command(NamedTuple):
    """How every worker of a server is started."""

    arguments: list[str]
    """The arguments of BentoML's worker; `worker.NUMBER` stands for its number, known later."""
    environment: Mapping[str, str]
    folder: str
    """The working directory."""
    listening: int
    """File descriptor of the HTTP port, which the worker inherits."""


class Child:
    """A worker process, or a spare one: it was started, and waits for `go` to load models."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.pid = process.pid
        self.ready = asyncio.Event()
        self.ready_at: float | None = None
        """When it said `ready`, in seconds of the event loop's clock."""
        self.silence = Silence()
        self._process = process
        self._writer = writer
        self._tasks = (
            asyncio.ensure_future(self._listen(reader)),
            asyncio.ensure_future(process.wait()),
        )

    @classmethod
    async def begin(cls, command: Command) -> Child:
        """Start a process, without waiting for its imports. Raises OSError or RuntimeError."""
        ours, its = socket.socketpair()
        with its:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", _BOOT, str(ROOT)),
                *("_bentoml_impl.worker.service", *command.arguments),
                cwd=command.folder,
                env={**command.environment, channel.VARIABLE: str(its.fileno())},
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=(command.listening, its.fileno()),
            )
        return cls(process, *await asyncio.open_connection(sock=ours))

    def go(self, number: int) -> None:
        """Order it to be worker ``number``: to load the models and serve."""
        self._say(channel.GO + b" %d" % number)

    def drain(self) -> None:
        """Order it to become unready, and to answer what still comes."""
        self._say(channel.DRAIN)

    def stop(self) -> None:
        """Order it to accept nothing any more, finish what it accepted, and end."""
        self._say(channel.STOP)

    def kill(self) -> None:
        """Kill it, by SIGKILL."""
        with suppress(ProcessLookupError):
            self._process.kill()

    async def ended(self) -> int:
        """Wait for its end and return its exit status, negative for a signal."""
        await asyncio.shield(self._tasks[1])
        return self._process.returncode or 0

    @property
    def lives(self) -> bool:
        """Whether it is still running."""
        return self._process.returncode is None

    def _say(self, word: bytes) -> None:
        with suppress(OSError):
            self._writer.write(word + b"\n")

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        with suppress(OSError):
            while word := await reader.readline():
                self.silence.broken()
                if word.rstrip() == channel.READY:
                    self.ready_at = asyncio.get_running_loop().time()
                    self.ready.set()
        self._writer.close()


def in_words(status: int) -> str:
    """Say how a process ended, by its exit status: "with exit status 1", "by SIGKILL"."""
    if status >= 0:
        return f"with exit status {status}"
    with suppress(ValueError):
        return f"by {signal.Signals(-status).name}"
    return f"by signal {-status}"


def code(status: int) -> int:
    """Return a shell's exit status for a child that ended with ``status``; never 0."""
    return 128 - status if status < 0 else (status or os.EX_SOFTWARE)
