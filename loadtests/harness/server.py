"""Starts the service for a benchmark: a free loopback port, a BentoML home of its own."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 120
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""Opens URLs past any proxy of the environment: the service is on this machine."""


class Running(NamedTuple):
    """A service that is ready."""

    port: int
    process: subprocess.Popen[bytes]
    started_s: float
    """Seconds from the start of the process until /readyz answered 200."""
    grpc_port: int = 0
    log: Path = Path(os.devnull)
    """Its standard output and error, while it runs."""

    def workers(self) -> list[int]:
        """Return the process ids of the workers, without the spare process."""
        return [
            child
            for child in descendants(self.process.pid)
            if _read(child, "comm").strip() == b"zoo-worker"
        ]

    def owner(self, client_port: int) -> int:
        """Return the worker that accepted the connection from this port. Raises LookupError."""
        here, there = f":{self.port:04X}", f":{client_port:04X}"
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[1].endswith(here) and fields[2].endswith(there):
                socket_name = f"socket:[{fields[9]}]"
                for worker in self.workers():
                    if socket_name in open_files(worker):
                        return worker
        raise LookupError(f"no worker holds the connection from port {client_port}")


class ServerFailed(RuntimeError):
    """The service did not become ready; the message is the last line of its log."""


@contextlib.contextmanager
def serving(
    *, cwd: Path = ROOT, start_s: float = START_SECONDS, port: int = 0, **settings: object
) -> Iterator[Running]:
    """Run the service with these settings (``zoo_...``). Raises ServerFailed after ``start_s``.

    It listens on a free port where none is given. Nothing of it is left when the context is closed.
    """
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        port = port or free_port()
        environment = clean_environment()
        environment |= {name.upper(): str(value) for name, value in settings.items()}
        environment.setdefault("ZOO_LOG_LEVEL", "WARNING")
        environment.setdefault("ZOO_SPARE", "false")  # it takes a core while it begins
        environment.setdefault("ZOO_GRPC_PORT", str(free_port()))
        environment |= {"BENTOML_HOME": folder, "BENTOML_DO_NOT_TRACK": "True"}
        command = [sys.executable, "-m", "bentoml", "serve", "service.app:ZooService"]
        command += ["--host", "127.0.0.1", "--port", str(port)]
        log = Path(folder, "log")
        with running(command, environment, port, partial(_is_ready, port), log, cwd, start_s) as it:
            yield it._replace(grpc_port=int(environment["ZOO_GRPC_PORT"]))


@contextlib.contextmanager
def running(
    command: Sequence[str],
    environment: Mapping[str, str],
    port: int,
    is_ready: Callable[[], bool],
    log: Path,
    cwd: Path = ROOT,
    start_s: float = START_SECONDS,
) -> Iterator[Running]:
    """Run a server in a session of its own. Raises ServerFailed when it is not ready in time.

    Nothing of it is left when the context is closed.
    """
    with log.open("wb") as output:
        started = time.perf_counter()
        process = subprocess.Popen(  # noqa: S603
            command,
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait(process, is_ready, log, start_s)
        yield Running(port, process, time.perf_counter() - started, log=log)
    finally:
        _stop(process)


def free_port() -> int:
    """Return a free loopback port below those that the system gives to outgoing connections.

    One of those could be taken between this question and the server's start. No port
    is given twice. Raises RuntimeError when none is left.
    """
    for port in _ports:
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise RuntimeError("no free port is left")


_ports = iter(random.sample(range(12_000, 32_000), 20_000))


def clean_environment() -> dict[str, str]:
    """Return this process' environment without settings of the service."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("ZOO_", "BENTOML"))}


def _is_ready(port: int) -> bool:
    with (
        contextlib.suppress(OSError, urllib.error.URLError),
        OPENER.open(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer,
    ):
        return bool(answer.status == 200)
    return False


def _wait(
    process: subprocess.Popen[bytes], is_ready: Callable[[], bool], log: Path, seconds: float
) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        if is_ready():
            return
        time.sleep(0.02)
    lines = log.read_text(errors="replace").strip().splitlines()
    last = lines[-1] if lines else "it said nothing"
    raise ServerFailed(f"not ready in {seconds:g} s: {last}" if process.poll() is None else last)


def _stop(process: subprocess.Popen[bytes]) -> None:
    known = {pid: _began(pid) for pid in family(process.pid)}
    try:
        _send(known, signal.SIGCONT)  # what is suspended does not hear that it should end
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
    finally:
        known |= {pid: _began(pid) for pid in family(process.pid)}
        left = {pid: began for pid, began in known.items() if began and _began(pid) == began}
        _send(left, signal.SIGKILL)
        process.wait()
        end = time.monotonic() + 5
        while any(_began(pid) == left[pid] for pid in left) and time.monotonic() < end:
            time.sleep(0.01)


def suspend(pid: int) -> None:
    """Halt a server and all its processes, so that idle ones that poll cost nothing."""
    _send(family(pid), signal.SIGSTOP)


def resume(pid: int) -> None:
    """Let a suspended server go on."""
    _send(family(pid), signal.SIGCONT)


def _send(pids: Iterable[int], what: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, what)


def proportional_bytes(pid: int) -> int:
    """Return the bytes of a process, shared pages divided among those that share them (PSS)."""
    for line in _read(pid, "smaps_rollup").splitlines():
        if line.startswith(b"Pss:"):
            return int(line.split()[1]) * 1024
    return 0


def family(pid: int) -> list[int]:
    """Return the ids of a server, its descendants, and orphans of its session."""
    sessions = (
        (int(entry.name), _read(int(entry.name), "stat").rpartition(b")")[2].split())
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit()
    )
    same = {each for each, fields in sessions if fields and int(fields[3]) == pid}
    return sorted({pid, *descendants(pid), *same})


def descendants(pid: int) -> list[int]:
    """Return the process ids of the children, their children and so on."""
    children = [int(child) for child in _read(pid, f"task/{pid}/children").split()]
    return children + [grandchild for child in children for grandchild in descendants(child)]


def _began(pid: int) -> int:
    """Return when a process began, in clock ticks since the system did; 0 where it has ended."""
    fields = _read(pid, "stat").rpartition(b")")[2].split()
    return int(fields[19]) if fields and fields[0] != b"Z" else 0


def open_files(pid: int) -> set[str]:
    """Return what the descriptors of a process lead to. Raises OSError where it has ended."""
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
