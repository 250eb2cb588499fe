"""Disturb the service while it serves: new versions, unloads, killed workers, bursts."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

from loadtests.clients import client
from loadtests.harness import marked
from loadtests.soak.http import judge
from loadtests.soak.ledger import Broken, Ledger, Outcome, WrongAnswer
from loadtests.soak.material import COMES_AND_GOES, SWAPPED, Picture, check_classification
from loadtests.soak.network import TIMEOUT_S, Network

KEPT_VERSIONS = 3
LOOK_SECONDS = 0.05
PAUSE_AFTER_REFUSAL_S = 0.2
"""Seconds that a refused client of a burst waits before it comes again."""


class Event(NamedTuple):
    """Something was done to the service."""

    at: float
    what: str
    took_s: float
    """Seconds until the service had followed, or the burst was over."""


class Failed(Exception):
    """The service did not follow; the message says what it should have done."""


class Chaos:
    """Does things to the service; what it has done is in `events`, what failed in `failures`."""

    def __init__(
        self,
        network: Network,
        ledger: Ledger,
        pictures: list[Picture],
        folder: Path,
        workers: int,
        seed: int,
    ) -> None:
        self.events: list[Event] = []
        self.failures: list[str] = []
        self._network = network
        self._ledger = ledger
        self._pictures = pictures
        self._folder = folder
        self._workers = workers
        self._random = random.Random(seed)  # noqa: S311
        self._versions = [1]
        self._number = 1
        self._eldest = self._living()[0]

    async def repeat(
        self, deed: Callable[[], Awaitable[None]], every_s: float, ended: asyncio.Event
    ) -> None:
        """Do ``deed`` every ``every_s`` seconds until the end, the first time after as many."""
        while True:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(ended.wait(), every_s)
            if ended.is_set():
                return
            try:
                await deed()
            except (Failed, OSError) as error:
                self.failures.append(str(error))

    async def swap(self) -> None:
        """Add a version, sometimes by a call, and remove an old one; sometimes add a broken one."""
        self._number += 1
        self._versions.append(self._number)
        with self._event("version swapped"):
            await asyncio.to_thread(marked.add, self._folder, SWAPPED, self._number)
            if self._random.random() < 0.5:
                await self._call(f"/v2/repository/models/{SWAPPED}/load")
            await self._until(SWAPPED, self._number, "ready")
        if len(self._versions) > KEPT_VERSIONS:
            gone = self._versions.pop(0)
            await asyncio.to_thread(marked.remove, self._folder, SWAPPED, gone)
        if self._random.random() < 0.2:
            self._number += 1
            await asyncio.to_thread(marked.add, self._folder, SWAPPED, self._number, broken=True)
            await self._until(SWAPPED, self._number, "refused")
            await asyncio.to_thread(marked.remove, self._folder, SWAPPED, self._number)

    async def unload_and_load(self) -> None:
        """Unload a model and load it again."""
        away = [perf_counter(), float("inf")]
        self._ledger.away.append(away)
        with self._event("unloaded and loaded"):
            await self._call(f"/v2/repository/models/{COMES_AND_GOES}/unload")
            await asyncio.sleep(self._random.random())
            await self._call(f"/v2/repository/models/{COMES_AND_GOES}/load")
        away[1] = perf_counter()

    async def kill_worker(self) -> None:
        """Kill the youngest worker: the eldest is spared, so that its memory is seen to the end.

        Where the eldest died by itself, that is a failure.
        """
        living = self._living()
        if self._eldest not in living:
            raise Failed(f"worker {self._eldest} has ended without having been killed")
        if len(living) < 2:
            raise Failed(f"there is only one worker, of {self._workers}")
        with self._event("worker killed"):
            before = self._network.grpc_listeners()
            self._ledger.kills.append(await self._network.kill(living[-1]))
            await self._until_another(before)

    async def _until_another(self, before: set[str]) -> None:
        end = perf_counter() + TIMEOUT_S
        while not self._network.grpc_listeners() - before or len(self._living()) < self._workers:
            if perf_counter() > end:
                raise Failed("a killed worker was not replaced")
            await asyncio.sleep(LOOK_SECONDS)

    async def burst(self, clients: int, seconds: float) -> None:
        """Send from many clients at once; the service refuses what it cannot take."""
        end = perf_counter() + seconds
        with self._event("burst"):
            await asyncio.gather(*(self._hurried(end) for _ in range(clients)))

    async def _hurried(self, end: float) -> None:
        picture = self._random.choice(self._pictures)
        request = client.raw(picture.jpeg, "/classify?protocol=center")
        line = None
        while perf_counter() < end:
            with self._ledger.request("burst") as entry:
                line = await self._network.line() if line is None else line
                try:
                    status, body = await line.ask(request)
                except Broken:
                    line = None
                    raise
                judge(
                    entry,
                    self._ledger,
                    status,
                    body,
                    lambda body: check_classification(json.loads(body), picture, "center"),
                )
            if entry.outcome is Outcome.REFUSED:
                await asyncio.sleep(PAUSE_AFTER_REFUSAL_S)
        if line is not None:
            line.close()

    async def _call(self, path: str) -> None:
        """Make an operator's call, again where the worker that had it was killed. Raises Failed."""
        request = client.request(path, "application/json", b"{}")
        for _ in range(3):
            with self._ledger.request("operator") as entry:
                line = await self._network.line()
                status, body = await line.ask(request)
                line.close()
                if status != 200:
                    raise WrongAnswer(f"{path}: {status} {body[:300]!r}")
                entry.right()
                return
        raise Failed(f"{path} was not answered")

    async def _until(self, model: str, version: int, state: str) -> None:
        """Wait until a worker says that this version is in this state. Raises Failed."""
        end = perf_counter() + TIMEOUT_S
        while await self._state(model, version) != state:
            if perf_counter() > end:
                raise Failed(f"version {version} of {model} was never {state}")
            await asyncio.sleep(LOOK_SECONDS)

    async def _state(self, model: str, version: int) -> str | None:
        found: str | None = None
        with self._ledger.request("operator") as entry:
            line = await self._network.line()
            _, body = await line.ask(b"GET /models HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            line.close()
            for each in json.loads(body)["models"]:
                if (each["name"], each["version"]) == (model, str(version)):
                    found = each["state"]
            entry.right()
        return found

    def _living(self) -> list[int]:
        """Return the workers' process ids, the eldest first."""
        return sorted(self._network.running.workers(), key=_began)

    @contextlib.contextmanager
    def _event(self, what: str) -> Iterator[None]:
        begun = perf_counter()
        yield
        self.events.append(Event(begun, what, perf_counter() - begun))


def _began(pid: int) -> tuple[int, int]:
    """Return when a process began, in clock ticks, and its id."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return 1 << 62, pid
    return int(fields[19]), pid
