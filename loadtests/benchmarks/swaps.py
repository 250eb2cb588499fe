"""Swap versions under full load, which no client may notice.

    python -m loadtests.benchmarks.swaps

Two workers are asked without a pause while, at 20 moments of a minute, a new version of the model
is put into the repository or the newest is taken away, another model is unloaded and loaded again,
and at some of them a broken version is put beside. Every answer is checked: the graph that computed
it, its labels and its version must belong together. The command fails when a request failed, or was
answered by a mixture, or when a version did not take over.

Where the service has /v2/repository, the other model is unloaded and loaded by calls; else its
folder is taken away and put back.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter

import numpy as np

from loadtests.clients import client
from loadtests.harness import bench, marked, server
from loadtests.harness.photographs import jpeg, photograph

DEFAULT, SWAPPED, OTHER = "default", "swapped", "other"
WORKERS = 2
LOOK_SECONDS = 0.1
TIMEOUT_S = 30.0


class Failed(Exception):
    """A request failed, or a version did not do what it should."""


class Traffic:
    """Connections that ask for the swapped model without a pause; checks what they get."""

    def __init__(self, picture: bytes) -> None:
        self._request = client.raw(picture, f"/classify?model={SWAPPED}&top_k={marked.CLASSES}")
        self._ends = False
        self.versions: Counter[int] = Counter()
        self.failures: list[str] = []
        self.latencies_s: dict[bool, list[float]] = {True: [], False: []}
        """By whether a swap was under way when the answer came."""
        self.swapping = False
        self.last: dict[client.Connection, int] = {}
        """The version that each connection was answered by last."""

    async def run(self, connection: client.Connection) -> None:
        """Ask on ``connection`` until `end`."""
        while not self._ends:
            begun = perf_counter()
            status = await connection.send(self._request)
            self.latencies_s[self.swapping].append(perf_counter() - begun)
            answer = json.loads(connection.body)
            if status != 200 or not marked.is_whole(answer):
                self.failures.append(f"{status}: {connection.body[:300]!r}")
                continue
            version = int(answer["version"])
            self.versions[version] += 1
            self.last[connection] = version

    def end(self) -> None:
        """Ask no more; answers under way still count."""
        self._ends = True

    @property
    def answered(self) -> int:
        """How many answers came."""
        return sum(map(len, self.latencies_s.values()))


class Operator:
    """Changes the repository, and waits until the service has followed."""

    def __init__(self, folder: Path, port: int, traffic: Traffic, picture: bytes) -> None:
        self._folder = folder
        self._port = port
        self._traffic = traffic
        self._picture = picture
        self._versions = [1]
        self._number = 1
        self.by_calls = False
        self.steps_s: list[float] = []

    async def begin(self) -> None:
        """Find out whether the service takes calls."""
        (self._connection,) = await client.connect(self._port, 1)
        status = await self._call("/v2/repository/index", {})
        self.by_calls = status == 200

    async def step(self, generator: random.Random) -> None:
        """Swap a version, unload and load a model, and sometimes add a broken version."""
        begun = perf_counter()
        if len(self._versions) > 1 and generator.random() < 0.3:
            marked.remove(self._folder, SWAPPED, self._versions.pop())
        else:
            self._number += 1
            self._versions.append(self._number)
            marked.add(self._folder, SWAPPED, self._number)
        newest = self._versions[-1]
        await _until(lambda: set(self._traffic.last.values()) == {newest}, f"version {newest}")
        if generator.random() < 0.25:
            self._number += 1
            marked.add(self._folder, SWAPPED, self._number, broken=True)
            await self._until_listed(SWAPPED, self._number, "refused")
            marked.remove(self._folder, SWAPPED, self._number)
        await self._unload_and_load()
        self.steps_s.append(perf_counter() - begun)

    async def _unload_and_load(self) -> None:
        if self.by_calls:
            for verb in ("unload", "load"):
                path = f"/v2/repository/models/{OTHER}/{verb}"
                if (status := await self._call(path, {})) != 200:
                    raise Failed(f"{path} answered {status}: {self._connection.body!r}")
        else:
            marked.remove(self._folder, OTHER, 1)
            await self._until_listed(OTHER, 1, None)
            marked.add(self._folder, OTHER, 1)
            await self._until_listed(OTHER, 1, "ready")
        request = client.raw(self._picture, f"/classify?model={OTHER}")
        for connection in await client.connect(self._port, 4):
            status = await connection.send(request)
            if status != 200 and self.by_calls:
                raise Failed(f"after its load {OTHER} answered {status}: {connection.body!r}")
            connection.close()

    async def _until_listed(self, name: str, version: int, state: str | None) -> None:
        async def listed() -> str | None:
            await self._connection.send(b"GET /models HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            models = json.loads(self._connection.body)["models"]
            key = (name, str(version))
            return next((m["state"] for m in models if (m["name"], m["version"]) == key), None)

        end = perf_counter() + TIMEOUT_S
        while await listed() != state:
            if perf_counter() > end:
                raise Failed(f"{name} version {version} was never {state}")
            await asyncio.sleep(0.02)

    async def _call(self, path: str, body: dict[str, object]) -> int:
        encoded = json.dumps(body).encode()
        return await self._connection.send(client.request(path, "application/json", encoded))


async def _until(condition: Callable[[], bool], what: str) -> None:
    end = perf_counter() + TIMEOUT_S
    while not condition():
        if perf_counter() > end:
            raise Failed(f"{what} did not take over")
        await asyncio.sleep(0.005)


async def connect_to_all(running: server.Running, count: int) -> list[client.Connection]:
    """Open connections until every worker has some: the kernel spreads them by chance."""
    connections = await client.connect(running.port, count)
    for _ in range(256):
        owners: set[int] = set()
        for connection in connections:
            await connection.send(client.GET_LIVEZ)  # a connection without a request has no owner
            owners.add(running.owner(connection.port))
        if len(owners) == len(running.workers()):
            return connections
        connections.pop(0).close()
        connections += await client.connect(running.port, 1)
    raise Failed("the kernel gave all connections to one worker")


async def swaps(
    running: server.Running, folder: Path, seconds: float, steps: int, connections: int, seed: int
) -> tuple[Traffic, Operator]:
    """Load the service for ``seconds`` while it changes ``steps`` times. Raises Failed."""
    picture = jpeg(photograph("coffee.png").resize((64, 64)))
    traffic = Traffic(picture)
    operator = Operator(folder, running.port, traffic, picture)
    await operator.begin()
    clients = await connect_to_all(running, connections)
    asking = [asyncio.ensure_future(traffic.run(one)) for one in clients]
    generator = random.Random(seed)  # noqa: S311
    begun = perf_counter()
    try:
        for number in range(steps):
            traffic.swapping = True
            await operator.step(generator)
            traffic.swapping = False
            due = begun + seconds * (number + 1) / steps
            await asyncio.sleep(max(0.0, due - perf_counter()))
    finally:
        traffic.end()
        await asyncio.gather(*asking)
    return traffic, operator


def run(seconds: float, steps: int, connections: int, seed: int) -> tuple[Traffic, Operator]:
    """Start the service on a repository of its own, and swap. Raises Failed."""
    with tempfile.TemporaryDirectory(prefix="swaps-") as name:
        folder = Path(name)
        for model in (DEFAULT, SWAPPED, OTHER):
            marked.add(folder, model, 1)
        with server.serving(
            zoo_models=folder,
            zoo_default_model=DEFAULT,
            zoo_workers=WORKERS,
            zoo_versions="latest:2",
            zoo_watch_seconds=LOOK_SECONDS,
            zoo_management="true",
        ) as running:
            return client.run(swaps(running, folder, seconds, steps, connections, seed))


def rows(traffic: Traffic, operator: Operator) -> list[dict[str, object]]:
    """Return one row per figure."""
    figures: dict[str, object] = {
        "requests": traffic.answered,
        "failed": len(traffic.failures),
        "swaps": len(operator.steps_s),
        "unloaded and loaded by": "calls" if operator.by_calls else "folders",
        "versions that answered": len(traffic.versions),
        "seconds of a change, median": float(np.median(operator.steps_s)),
    }
    for during, words in ((False, "between changes"), (True, "during changes")):
        for percentile in (50, 99):
            figure = f"p{percentile} in ms, {words}"
            figures[figure] = _ms(traffic.latencies_s[during], percentile)
    return [{"figure": figure, "value": value} for figure, value in figures.items()]


def _ms(seconds: Sequence[float], percentile: float) -> float:
    return float(np.percentile(seconds, percentile)) * 1e3 if seconds else 0.0


def main() -> int:
    """Run, print the table and the answers per version, write the CSV; 1 on any failure."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.benchmarks.swaps", description=__doc__
    )
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--swaps", type=int, default=20)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=bench.RESULTS / "swaps.csv")
    args = parser.parse_args()
    try:
        traffic, operator = run(args.seconds, args.swaps, args.connections, args.seed)
    except (Failed, ConnectionError) as error:
        print(f"failed: {error}", file=sys.stderr)
        return 1
    found = rows(traffic, operator)
    print(bench.table(found))
    answers = (f"{version}: {count}" for version, count in sorted(traffic.versions.items()))
    print("answers by version: " + ", ".join(answers))
    bench.write_csv(args.output, found, bench.machine("onnxruntime", "bentoml"))
    for failure in traffic.failures[:10]:
        print(failure, file=sys.stderr)
    return 1 if traffic.failures else 0


if __name__ == "__main__":
    sys.exit(main())
