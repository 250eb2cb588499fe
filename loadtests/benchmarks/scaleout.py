"""Kill, stop and replace replicas behind nginx under load.

    python -m loadtests.benchmarks.scaleout

Three services with one worker each stand behind nginx as deploy/nginx/nginx.conf has it. HTTP and
gRPC go through nginx; other gRPC calls go to the replicas themselves, balanced by the client as in
front of a headless Service. Meanwhile one replica is killed with all its processes, and started
again; one is stopped by SIGTERM, and started again; a new version of the model is put into each
one's repository; and all of them are replaced in turn by new processes with a newer version.

Every answer is checked: graph, labels and version must belong together, and after a step its
version is the only one that answers. The command ends with 1 when a request failed. HTTP requests
are never tried again by this client, only by nginx; gRPC calls are by the retry policy of
deploy/grpc/service_config.json.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections import Counter
from collections.abc import Awaitable, Sequence
from pathlib import Path
from time import perf_counter

import numpy as np

from loadtests.clients import client
from loadtests.clients.steady import Answers, Failed, Traffic, channel, grpc_ask, http_ask
from loadtests.harness import bench, fleet, server
from loadtests.harness.photographs import jpeg, photograph

REPLICAS = 3
HTTP, GRPC, DIRECT = "HTTP, nginx", "gRPC, nginx", "gRPC, balanced by the client"
PATHS = {HTTP: "/classify", GRPC: "/zoo.v1.Classifier/"}
"""Path of the requests that go through nginx, by kind."""
AT_ONCE = 8
"""Most requests of each kind at a time."""


class Steps:
    """What is done to the replicas, in order, while they are asked."""

    def __init__(
        self, replicas: list[fleet.Replica], nginx: fleet.Nginx, traffic: Traffic, pause_s: float
    ) -> None:
        self._replicas = replicas
        self._nginx = nginx
        self._traffic = traffic
        self._pause_s = pause_s
        self.tried_again: dict[str, Counter[str]] = {}
        """By step and kind, how many requests that nginx saw were not answered at the first try."""
        self.seconds: dict[str, float] = {}

    async def all(self) -> None:
        """Take every step. Raises Failed."""
        first, second, _ = self._replicas
        await self._step("nothing", self._traffic.until_answered_by(1))
        await self._step("one killed", asyncio.to_thread(first.kill))
        await self._step("started again", self._start(first, 1))
        await self._step("one stopped by SIGTERM", self._stop(second))
        await self._step("started once more", self._start(second, 1))
        await self._step("a new version in all repositories", self._add(2))
        await self._step("all replaced in turn", self._replace(3))

    async def few(self) -> None:
        """Take each kind of step once. Raises Failed."""
        first, second, _ = self._replicas
        await self._step("nothing", self._traffic.until_answered_by(1))
        await self._step("one killed", asyncio.to_thread(first.kill))
        await self._step("started again with a new version", self._start(first, 2))
        await self._step("a new version in the others", self._add(2, self._replicas[1:]))
        await self._step("one stopped by SIGTERM", self._stop(second))

    async def _step(self, name: str, work: Awaitable[object]) -> None:
        self._traffic.step = name
        before, begun = self._counts(), perf_counter()
        await work
        self.seconds[name] = perf_counter() - begun
        await asyncio.sleep(self._pause_s)
        self.tried_again[name] = self._counts() - before

    def _counts(self) -> Counter[str]:
        """Count by kind the requests that the replica asked first did not answer."""
        return Counter({kind: self._nginx.tried_again(path) for kind, path in PATHS.items()})

    async def _start(self, replica: fleet.Replica, version: int) -> None:
        await asyncio.to_thread(replica.start, version)

    async def _stop(self, replica: fleet.Replica) -> None:
        status = await asyncio.to_thread(replica.stop)
        if status:
            raise Failed(f"after SIGTERM {replica.name} ended with {status}")

    async def _add(self, version: int, replicas: Sequence[fleet.Replica] = ()) -> None:
        for replica in replicas or self._replicas:
            await asyncio.to_thread(replica.add, version)
        await self._traffic.until_answered_by(version)

    async def _replace(self, version: int) -> None:
        for replica in self._replicas:
            await self._stop(replica)
            await self._start(replica, version)
            await asyncio.sleep(self._pause_s)
        await self._traffic.until_answered_by(version)


async def scaleout(
    replicas: list[fleet.Replica], nginx: fleet.Nginx, rate: float, pause_s: float, *, few: bool
) -> tuple[Traffic, Steps]:
    """Take all steps, or a few, under ``rate`` requests/s of each kind. Raises Failed."""
    picture = jpeg(photograph("coffee.png").resize((64, 64)))
    connections = await client.connect(nginx.port, AT_ONCE)
    addresses = ",".join(f"127.0.0.1:{replica.grpc_port}" for replica in replicas)
    proxied = channel(f"127.0.0.1:{nginx.grpc_port}", balanced=False)
    direct = channel(f"ipv4:{addresses}", balanced=True)
    async with proxied, direct:
        traffic = Traffic(
            {
                HTTP: [http_ask(connection, picture) for connection in connections],
                GRPC: [grpc_ask(proxied, picture)] * AT_ONCE,
                DIRECT: [grpc_ask(direct, picture)] * AT_ONCE,
            },
            rate,
        )
        steps = Steps(replicas, nginx, traffic, pause_s)
        asking = asyncio.ensure_future(traffic.run())
        try:
            await (steps.few() if few else steps.all())
        finally:
            traffic.end()
            await asking
    for connection in connections:
        connection.close()
    return traffic, steps


def run(
    rate: float, pause_s: float, *, few: bool = False, **settings: object
) -> tuple[Traffic, Steps]:
    """Start the replicas and nginx, and do all steps or a few. Raises Failed and ServerFailed."""
    with fleet.fleet(REPLICAS, **settings) as (replicas, nginx):
        return client.run(scaleout(replicas, nginx, rate, pause_s, few=few))


def rows(traffic: Traffic, steps: Steps) -> list[dict[str, object]]:
    """Return one row per step and kind of traffic."""
    return [
        {
            "step": step,
            "step_s": steps.seconds[step],
            "traffic": kind,
            "answered": len(answers.latencies_s),
            "failed": len(answers.failures),
            "tried_again": steps.tried_again[step][kind] if kind in PATHS else "",
            "p50_ms": _ms(answers, 50),
            "p99_ms": _ms(answers, 99),
            "longest_ms": _ms(answers, 100),
        }
        for step in steps.tried_again
        for kind in (HTTP, GRPC, DIRECT)
        if (answers := traffic.answers.get((step, kind)))
    ]


def _ms(answers: Answers, percentile: float) -> float:
    taken = answers.latencies_s
    return float(np.percentile(taken, percentile)) * 1e3 if taken else 0.0


def main() -> int:
    """Run, print the table, write the CSV; 1 on any failure."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.benchmarks.scaleout", description=__doc__
    )
    parser.add_argument("--rate", type=float, default=100.0, help="requests/s of each kind")
    parser.add_argument("--pause", type=float, default=5.0, help="seconds after each step")
    parser.add_argument("--output", type=Path, default=bench.RESULTS / "scaleout.csv")
    args = parser.parse_args()
    try:
        traffic, steps = run(args.rate, args.pause)
    except (Failed, ConnectionError, server.ServerFailed) as error:
        print(f"failed: {error}", file=sys.stderr)
        return 1
    found = rows(traffic, steps)
    print(bench.table(found))
    bench.write_csv(args.output, found, bench.machine("onnxruntime", "bentoml", "grpcio"))
    for failure in traffic.failures[:10]:
        print(failure, file=sys.stderr)
    return 1 if traffic.failures else 0


if __name__ == "__main__":
    sys.exit(main())
