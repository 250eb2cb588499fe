"""Runs the real service in a process of its own, on a free loopback port."""

from __future__ import annotations

import contextlib
import os
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil

from loadtests.harness.server import free_port
from tests.capabilities import demand
from tests.paths import ROOT

START_SECONDS = 240
"""Patience with a loaded machine; a healthy start takes two seconds."""
PATIENCE_SECONDS = 60
"""For what a quiet machine does within one: other tests, or others, may have the cores."""

WORKER, SPARE = "zoo-worker", "zoo-spare"


def named(pid: int, name: str) -> list[psutil.Process]:
    """A process' children of this name, which only Linux lets a process choose."""
    demand("proc")
    return [each for each in psutil.Process(pid).children() if each.name() == name]


class Server:
    """A running service."""

    def __init__(
        self,
        url: str,
        process: subprocess.Popen[bytes],
        log: Path,
        grpc_port: int = 0,
        tls: ssl.SSLContext | None = None,
        idle_ms: float = 75_000,
    ) -> None:
        self.url = url
        self.grpc_address = f"127.0.0.1:{grpc_port}"
        self.process = process
        self._log = log
        self._tls = tls
        self._idle_ms = idle_ms
        self.client = self._client()

    def _client(self) -> httpx.Client:
        # never a request on a connection that the server is closing for having been idle
        limits = httpx.Limits(keepalive_expiry=min(5, self._idle_ms / 2000))
        verify = True if self._tls is None else self._tls
        return httpx.Client(base_url=self.url, timeout=60, verify=verify, limits=limits)

    def reconnect(self) -> None:
        """Close the client's connections, and go on with a new client that has none."""
        self.close()
        self.client = self._client()

    def close(self) -> None:
        self.client.close()

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def wait_for(self, condition: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> None:
        """Until it holds. Raises AssertionError when it does not in time."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"waited in vain; the log: {self.log}"
            time.sleep(0.02)

    def logged(self, text: str, times: int = 1, seconds: float = PATIENCE_SECONDS) -> str:
        """The line of the log that has this text the ``times``-th time; waits for it.

        An access line follows its answer, and workers start one after the other.
        """
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            lines = [line for line in self.log.splitlines() if text in line]
            if len(lines) >= times:
                return lines[times - 1]
            time.sleep(0.02)
        raise AssertionError(f"{text!r} is not {times} times in the log: {self.log}")

    def metric(self, sample: str) -> float:
        """The value of one sample of /metrics, by its name and labels as they are written."""
        for line in self.client.get("/metrics").text.splitlines():
            if line.startswith(f"{sample} "):
                return float(line.rpartition(" ")[2])
        return 0.0

    def workers(self) -> list[psutil.Process]:
        return named(self.process.pid, WORKER)

    def spares(self) -> list[psutil.Process]:
        return named(self.process.pid, SPARE)

    def memory(self) -> int:
        """Resident bytes of all workers."""
        return sum(worker.memory_info().rss for worker in self.workers())

    def classify(self, picture: bytes | Path, **query: Any) -> httpx.Response:
        data = picture.read_bytes() if isinstance(picture, Path) else picture
        return self.client.post(
            "/classify", content=data, params={k: str(v) for k, v in query.items()}
        )


def environment(home: Path, **settings: Any) -> dict[str, str]:
    clean = {
        k: v for k, v in os.environ.items() if not k.startswith(("ZOO_", "BENTOML_", "PROMETHEUS_"))
    }
    ours = {name.upper(): str(value) for name, value in settings.items()}
    ours.setdefault("ZOO_SPARE", "false")  # each takes a second of a core
    clean.pop("PYTHONDONTWRITEBYTECODE", None)  # or each server compiles the service anew
    return {**clean, "BENTOML_HOME": str(home), "BENTOML_DO_NOT_TRACK": "True", **ours}


def command(
    port: int, service: str = "service.app:ZooService", python: str = sys.executable
) -> list[str]:
    return [python, "-m", "bentoml", "serve", service, "--host", "127.0.0.1", "--port", str(port)]


@contextlib.contextmanager
def serving(
    folder: Path,
    *,
    service: str = "service.app:ZooService",
    python: str = sys.executable,
    cwd: Path = ROOT,
    ready: int = 200,
    tls: ssl.SSLContext | None = None,
    **settings: Any,
) -> Iterator[Server]:
    """Start the service with these ZOO_ settings and wait until /readyz answers ``ready``.

    ``tls`` is the client's side of TLS, where the settings ask for it.
    """
    port = free_port()
    grpc_port = int(str(settings.setdefault("zoo_grpc_port", free_port())))
    log = folder / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command(port, service, python),
            cwd=cwd,
            env=environment(folder / "bentoml", **settings),
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    try:
        scheme = "http" if tls is None else "https"
        idle = float(str(settings.get("zoo_idle_ms", 75_000)))
        server = Server(f"{scheme}://127.0.0.1:{port}", process, log, grpc_port, tls, idle)
        with contextlib.closing(server):
            wait_until_ready(server, ready)
            yield server
    finally:
        stop(process)


def wait_until_ready(server: Server, status: int = 200) -> None:
    """Wait until /readyz answers ``status``. Raises RuntimeError with the log."""
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        if server.process.poll() is not None:
            raise RuntimeError(f"the server ended: {server.log}")
        with contextlib.suppress(httpx.TransportError):
            if server.client.get("/readyz", timeout=5).status_code == status:
                return
        time.sleep(0.05)
    raise RuntimeError(f"the server was not ready in {START_SECONDS} s: {server.log}")


def stop(process: subprocess.Popen[bytes]) -> None:
    """Stop the server as a supervisor does. Nothing that it started may outlive it."""
    family = []
    if process.poll() is None:
        family = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(PATIENCE_SECONDS)
    left = psutil.wait_procs(family, timeout=5)[1]
    for survivor in left:
        survivor.kill()
    if process.poll() is None:
        process.kill()
        process.wait(5)
        raise AssertionError("the server did not stop on SIGTERM")
    assert not left, f"processes outlived the server: {left}"
