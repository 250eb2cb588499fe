"""Starts the service for a benchmark: a free loopback port, a BentoML home of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 120
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""Asks past the proxy that the environment may name: the service is on this machine."""


class Running(NamedTuple):
    """A service that is ready."""

    port: int
    process: subprocess.Popen[bytes]
    started_s: float
    """Seconds from the start of the process until /readyz answered 200."""

    def workers(self) -> list[int]:
        """Process ids of the workers, found by their command line."""
        return [
            child
            for child in _descendants(self.process.pid)
            if b"_bentoml_impl.worker.service" in _read(child, "cmdline")
        ]

    def owner(self, client_port: int) -> int:
        """The worker that accepted the connection from this port. Raises LookupError."""
        here, there = f":{self.port:04X}", f":{client_port:04X}"
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[1].endswith(here) and fields[2].endswith(there):
                socket_name = f"socket:[{fields[9]}]"
                for worker in self.workers():
                    if socket_name in _open_files(worker):
                        return worker
        raise LookupError(f"no worker holds the connection from port {client_port}")


class ServerFailed(RuntimeError):
    """The service did not become ready; the message is the last line of its log."""


@contextlib.contextmanager
def serving(
    *, cwd: Path = ROOT, start_s: float = START_SECONDS, **settings: object
) -> Iterator[Running]:
    """Run the service with these settings (``zoo_...``). Raises ServerFailed after ``start_s``.

    Nothing of it is left when the context is closed.
    """
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        probe.close()
        log = Path(folder, "log")
        environment = clean_environment()
        environment |= {name.upper(): str(value) for name, value in settings.items()}
        environment.setdefault("ZOO_LOG_LEVEL", "WARNING")
        environment |= {"BENTOML_HOME": folder, "BENTOML_DO_NOT_TRACK": "True"}
        command = [sys.executable, "-m", "bentoml", "serve", "service.app:ZooService"]
        with log.open("wb") as output:
            started = time.perf_counter()
            process = subprocess.Popen(  # noqa: S603
                [*command, "--host", "127.0.0.1", "--port", str(port)],
                cwd=cwd,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            _wait(process, port, log, start_s)
            yield Running(port, process, time.perf_counter() - started)
        finally:
            _stop(process)


def clean_environment() -> dict[str, str]:
    """This process' environment without settings: every contender has its own, or none."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("ZOO_", "BENTOML"))}


def _wait(process: subprocess.Popen[bytes], port: int, log: Path, seconds: float) -> None:
    url = f"http://127.0.0.1:{port}/readyz"
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if process.poll() is not None:
            break
        with (
            contextlib.suppress(OSError, urllib.error.URLError),
            OPENER.open(url, timeout=5) as answer,
        ):
            if answer.status == 200:
                return
        time.sleep(0.02)
    lines = log.read_text(errors="replace").strip().splitlines()
    raise ServerFailed(lines[-1] if lines else "it said nothing")


def _stop(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(20)
    with contextlib.suppress(ProcessLookupError):  # whoever is left of its session
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def proportional_bytes(pid: int) -> int:
    """Memory of a process, shared pages divided among those that share them (Linux' PSS)."""
    for line in _read(pid, "smaps_rollup").splitlines():
        if line.startswith(b"Pss:"):
            return int(line.split()[1]) * 1024
    return 0


def _descendants(pid: int) -> list[int]:
    children = [int(child) for child in _read(pid, f"task/{pid}/children").split()]
    return children + [grandchild for child in children for grandchild in _descendants(child)]


def _open_files(pid: int) -> set[str]:
    names = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):  # closed meanwhile
            names.add(os.readlink(entry))
    return names


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""
