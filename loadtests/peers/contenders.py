"""Make the contenders: the service, exact and fast, and each peer that can be installed."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from loadtests.clients import client
from loadtests.harness import server
from loadtests.harness.server import ROOT, Running
from loadtests.peers import environments
from loadtests.peers.catalogue import Peer, first_class

OURS_EXACT = "ours, exact"
OURS_FAST = "ours, fast"
OURS_BEST = "ours, best"
OURS = {"exact": OURS_EXACT, "fast": OURS_FAST, "best": OURS_BEST}
MEASURED_WITH = ("onnxruntime", "pillow")
ANSWER_SECONDS = 30


@dataclass(frozen=True)
class Contender:
    """A server that can be started, asked and understood."""

    name: str
    start: Callable[[], AbstractContextManager[Running]]
    requests: Sequence[bytes]
    """Whole HTTP requests, each with another picture."""
    first_class: Callable[[bytes], int]
    versions: dict[str, str]
    """Versions of the server itself and of ``MEASURED_WITH``."""


def ours(
    settings: dict[str, Any],
    mode: Literal["exact", "fast", "best"],
    pictures: Sequence[bytes],
    versions: dict[str, str],
) -> Contender:
    """Return the service in a mode of preprocessing; ``best`` differs by ``settings`` alone."""
    preprocessing = "exact" if mode == "exact" else "fast"
    start = partial(server.serving, **settings, zoo_preprocessing=preprocessing)
    requests = [client.raw(picture) for picture in pictures]
    return Contender(OURS[mode], start, requests, first_class, versions)


def install(
    peer: Peer,
    folder: Path,
    model: Path,
    threads: int,
    pictures: Sequence[bytes],
    common: Sequence[str],
) -> Contender:
    """Install a peer in an environment in ``folder``. Raises EnvironmentFailed."""
    python = environments.prepare(folder, [*common, *peer.requirements])
    found = environments.versions(python, [peer.package, *MEASURED_WITH])
    versions = {"server": f"{peer.package} {found.pop(peer.package)}", **found}
    requests = [peer.request(picture) for picture in pictures]
    start = partial(serving, peer, python, model, threads, requests[0])
    return Contender(peer.name, start, requests, peer.first_class, versions)


@contextlib.contextmanager
def serving(
    peer: Peer, python: Path, model: Path, threads: int, request: bytes
) -> Iterator[Running]:
    """Run a peer until the context is closed; it is ready when it answers ``request``.

    What it writes goes into a folder that is removed. Raises server.ServerFailed.
    """
    with tempfile.TemporaryDirectory(prefix="peer-") as folder:
        port = server.free_port()
        environment = server.clean_environment()
        environment |= dict.fromkeys(("BENTOML_HOME", "PYTRITON_HOME", "TMPDIR"), folder)
        environment |= {"BENTOML_DO_NOT_TRACK": "True", "PYTHONUNBUFFERED": "1"}
        environment |= {
            "PEER_MODEL": str(model.resolve()),
            "PEER_PORT": str(port),
            "PEER_THREADS": str(threads),
        }
        command = [str(python), "-m", peer.module]
        is_ready = partial(answers, port, request)
        log = Path(folder, "log")
        with server.running(command, environment, port, is_ready, log, ROOT) as running:
            yield running


def answers(port: int, request: bytes) -> bool:
    """Whether a server answers this request with status 200."""

    async def ask() -> int:
        (connection,) = await client.connect(port, 1)
        try:
            return await asyncio.wait_for(connection.send(request), ANSWER_SECONDS)
        finally:
            connection.close()

    with contextlib.suppress(OSError, asyncio.TimeoutError, ValueError):
        return client.run(ask()) == 200
    return False


async def first_classes(contender: Contender, port: int) -> list[int]:
    """Ask for every picture's most probable class. Raises RuntimeError for any other answer."""
    (connection,) = await client.connect(port, 1)
    try:
        found = []
        for request in contender.requests:
            status = await asyncio.wait_for(connection.send(request), ANSWER_SECONDS)
            if status != 200:
                raise RuntimeError(f"it answers {status}: {connection.body[:200]!r}")
            found.append(contender.first_class(connection.body))
        return found
    finally:
        connection.close()
