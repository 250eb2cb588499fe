"""Run replicas behind nginx on one machine, each a service on ports that it keeps."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from loadtests.harness import marked, server

CONFIGURATION = server.ROOT / "deploy" / "nginx" / "nginx.conf"
SERVICE_CONFIG = server.ROOT / "deploy" / "grpc" / "service_config.json"
MODEL = "marked"
LOOK_SECONDS = 0.1
START_SECONDS = 10.0
HANG_S = 0.3


class Address(Protocol):
    """Where a replica listens."""

    port: int
    grpc_port: int


class Replica:
    """One service with one worker and a model repository of its own, which can be started anew."""

    def __init__(self, name: str, folder: Path, settings: Mapping[str, Any]) -> None:
        self.name = name
        self.port = server.free_port()
        self.grpc_port = server.free_port()
        self._folder = folder
        self._settings = settings
        self._stack = ExitStack()
        self._running: server.Running | None = None
        self._repository = folder
        self._generation = 0

    def start(self, version: int) -> float:
        """Start a new process with this version alone; return the seconds until it was ready."""
        self._generation += 1
        self._repository = self._folder / f"{self.name}-{self._generation}"
        self._repository.mkdir(parents=True)
        marked.add(self._repository, MODEL, version)
        self._running = self._stack.enter_context(
            server.serving(
                port=self.port,
                zoo_grpc_port=self.grpc_port,
                zoo_models=self._repository,
                zoo_default_model=MODEL,
                zoo_workers=1,
                zoo_threads=1,
                zoo_versions="latest",
                zoo_watch_seconds=LOOK_SECONDS,
                **self._settings,
            )
        )
        return self._running.started_s

    def add(self, version: int) -> None:
        """Add a version beside the one that answers; the service finds it by itself."""
        marked.add(self._repository, MODEL, version)

    def kill(self, hang_s: float = HANG_S) -> None:
        """Halt all processes for ``hang_s`` seconds, then kill them, as if the machine were lost.

        So there are requests that it has accepted and never answers.
        """
        pid = self._process().pid
        server.suspend(pid)
        time.sleep(hang_s)
        for each in server.family(pid):
            with suppress(ProcessLookupError):
                os.kill(each, signal.SIGKILL)
        self._stack.close()

    def stop(self) -> int:
        """Send SIGTERM, wait for the end and return the exit status."""
        process = self._process()
        self._stack.close()
        return process.returncode

    def close(self) -> None:
        """End whatever still runs."""
        self._stack.close()

    def _process(self) -> subprocess.Popen[bytes]:
        assert self._running is not None  # noqa: S101
        return self._running.process


class Nginx:
    """nginx in front of the replicas, by deploy/nginx/nginx.conf with other ports."""

    def __init__(self, folder: Path) -> None:
        self.port = server.free_port()
        self.grpc_port = server.free_port()
        self._log = folder / "access.log"

    def tried_again(self, prefix: str) -> int:
        """Count the requests to paths with this prefix that the replica asked first did not answer.

        HTTP goes to a second one; calls of gRPC end with UNAVAILABLE where one had them already.
        """
        if not self._log.exists():
            return 0
        count = 0
        for line in self._log.read_text().splitlines():
            head, _, statuses, *_ = line.split("[")
            path = head.split()[2]
            count += path.startswith(prefix) and not statuses.startswith("200]")
        return count


def program() -> str | None:
    """Return the path of nginx, unpacked by tests/tools.sh or installed; None without it."""
    unpacked = server.ROOT / ".tools" / "usr" / "sbin" / "nginx"
    return str(unpacked) if unpacked.exists() else shutil.which("nginx")


@contextmanager
def balanced(replicas: Sequence[Address], folder: Path) -> Iterator[Nginx]:
    """Run nginx in front of the replicas. Raises ServerFailed where it does not start."""
    nginx = Nginx(folder)
    binary = program()
    if binary is None:
        raise server.ServerFailed("there is no nginx; tests/tools.sh .tools unpacks one")
    path = folder / "nginx.conf"
    path.write_text(_configuration(nginx, replicas))
    once = "daemon off;" + (" user root;" if os.geteuid() == 0 else "")  # the folder is ours alone
    command = [binary, "-p", str(folder), "-c", str(path), "-e", str(folder / "error.log")]
    process = subprocess.Popen([*command, "-g", once], start_new_session=True)  # noqa: S603
    try:
        _wait(process, nginx.port, folder / "error.log")
        yield nginx
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _configuration(nginx: Nginx, replicas: Sequence[Address]) -> str:
    """Return the deployed file with these ports. Raises ServerFailed where one is not in it."""
    ports = {"listen 8080 ": nginx.port, "listen 8081 ": nginx.grpc_port}
    addresses = {old: f"listen 127.0.0.1:{port} " for old, port in ports.items()}
    for number, replica in enumerate(replicas, 1):
        addresses[f"server zoo-{number}:3000 "] = f"server 127.0.0.1:{replica.port} "
        addresses[f"server zoo-{number}:3001 "] = f"server 127.0.0.1:{replica.grpc_port} "
    text = CONFIGURATION.read_text()
    for old, new in addresses.items():
        if text.count(old) != 1:
            raise server.ServerFailed(f"{CONFIGURATION} should have one {old!r}")
        text = text.replace(old, new)
    return text


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    said = log.read_text() if log.exists() else ""
    raise server.ServerFailed(f"nginx did not start: {said.strip()}")


@contextmanager
def fleet(count: int, **settings: object) -> Iterator[tuple[list[Replica], Nginx]]:
    """Run ``count`` replicas that answer with version 1, behind nginx; end them afterwards.

    Raises ServerFailed where one does not become ready.
    """
    with tempfile.TemporaryDirectory(prefix="fleet-") as name, ExitStack() as stack:
        folder = Path(name)
        replicas = [Replica(f"zoo-{n}", folder / "models", settings) for n in range(1, count + 1)]
        for replica in replicas:
            stack.callback(replica.close)
        with ThreadPoolExecutor(count) as pool:
            list(pool.map(lambda replica: replica.start(1), replicas))
        place = folder / "nginx"
        place.mkdir()
        yield replicas, stack.enter_context(balanced(replicas, place))
