"""Run one soak: the service on a repository of its own, its users and its disturbances."""

from __future__ import annotations

import asyncio
import re
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

from prometheus_client.parser import text_string_to_metric_families

from loadtests.clients import client
from loadtests.harness import server
from loadtests.soak import material
from loadtests.soak.calls import GrpcUser
from loadtests.soak.chaos import Chaos
from loadtests.soak.http import HttpUser
from loadtests.soak.ledger import Ledger, Outcome
from loadtests.soak.network import TIMEOUT_S, Network
from loadtests.soak.users import Pace
from loadtests.soak.vandals import Vandal
from loadtests.soak.vitals import Vitals

HTTP_USERS, GRPC_USERS, VANDALS = 10, 6, 4
VANDALISM = 0.06
"""Rate of the vandals as a share of the others'; at least a deed in two seconds."""
QUEUE_CROPS = 64
"""Few, so that a burst is refused and does not only wait."""
DEADLINE_MS = 120_000
"""Long: on a machine that others use too, what was accepted is late, and is waited for."""
BURST_CLIENTS = 80
QUIET_SECONDS = 20.0
"""Seconds in which the service must have released everything, once nobody asks."""
_GAUGES = ("zoo_admitted_crops", "zoo_body_bytes", "zoo_queue_crops")


class Plan(NamedTuple):
    """The settings of a soak."""

    minutes: float
    workers: int = 2
    load: float = 0.4
    """The load, as a share of the rate that the users reach without pauses."""
    rate: float = 0.0
    """Requests per second instead; 0: by ``load``."""
    swap_every_s: float = 20.0
    unload_every_s: float = 30.0
    kill_every_s: float = 300.0
    burst_every_s: float = 240.0
    burst_s: float = 5.0
    seed: int = 0
    pictures: int = material.PICTURES

    @property
    def sample_s(self) -> float:
        """Seconds between two samples: 360 of them, but not more than two in a second."""
        return max(self.minutes * 60 / 360, 0.5)

    @property
    def calibration_s(self) -> float:
        """Seconds in which the users' highest rate is measured."""
        return min(15.0, self.minutes * 60 / 8)


@dataclass
class Soak:
    """The result of a soak."""

    ledger: Ledger
    vitals: Vitals
    chaos: Chaos
    rate: float
    """Requests per second that the users were told to send."""
    highest_rate: float
    """The rate that they reached without thinking; 0 where it was not measured."""
    log: list[tuple[str, int]]
    """Lines of the service's log, figures left out, and how often each came."""


def run(plan: Plan) -> Soak:
    """Start the service and run the soak. Raises `server.ServerFailed`."""
    pictures = material.pictures(plan.pictures)
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        folder = Path(name)
        material.repository(folder)
        with server.serving(
            zoo_models=folder,
            zoo_default_model=material.MODEL,
            zoo_workers=plan.workers,
            zoo_versions="latest:2",
            zoo_watch_seconds=1,
            zoo_management="true",
            zoo_queue_crops=QUEUE_CROPS,
            zoo_deadline_ms=DEADLINE_MS,
            zoo_max_body_bytes=material.MAX_BODY_BYTES,
        ) as running:
            soak = client.run(_soak(plan, running, pictures, folder))
            soak.log = _log(running.log)
    return soak


async def _soak(
    plan: Plan, running: server.Running, pictures: list[material.Picture], folder: Path
) -> Soak:
    network, ledger = Network(running), Ledger()
    pace, vandals_pace = Pace(HTTP_USERS + GRPC_USERS), Pace(VANDALS)
    vandals_pace.rate = 2.0
    chaos = Chaos(network, ledger, pictures, folder, plan.workers, plan.seed)
    vitals = Vitals(running, ledger)
    users = [
        kind(network, ledger, pictures, of, plan.seed * 1000 + number)
        for number, (kind, of) in enumerate(
            [(HttpUser, pace)] * HTTP_USERS
            + [(GrpcUser, pace)] * GRPC_USERS
            + [(Vandal, vandals_pace)] * VANDALS
        )
    ]
    ended = asyncio.Event()
    begun = perf_counter()
    tasks = [asyncio.ensure_future(user.run()) for user in users]
    tasks.append(asyncio.ensure_future(vitals.every(plan.sample_s, ended)))
    highest = 0.0
    if not plan.rate:
        await asyncio.sleep(plan.calibration_s)
        highest = ledger.total(Outcome.RIGHT) / plan.calibration_s
    pace.rate = plan.rate or max(plan.load * highest, 1.0)
    vandals_pace.rate = max(VANDALISM * pace.rate, 0.5)
    for deed, every_s in (
        (chaos.swap, plan.swap_every_s),
        (chaos.unload_and_load, plan.unload_every_s),
        (chaos.kill_worker, plan.kill_every_s),
        (lambda: chaos.burst(BURST_CLIENTS, plan.burst_s), plan.burst_every_s),
    ):
        tasks.append(asyncio.ensure_future(chaos.repeat(deed, every_s, ended)))
    tasks.append(asyncio.ensure_future(_tell(ledger, chaos, vitals, ended)))
    await _sleep_or_fail(begun + plan.minutes * 60 - perf_counter(), tasks)
    for event in (ended, pace.ended, vandals_pace.ended):
        event.set()
    await _finish(tasks)
    chaos.failures += await _not_let_go(running, plan.workers)
    return Soak(ledger, vitals, chaos, pace.rate, highest, [])


async def _sleep_or_fail(seconds: float, tasks: Sequence[asyncio.Future[None]]) -> None:
    """Sleep for ``seconds``; raise what a task raises meanwhile."""
    done, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
    for task in done:
        task.result()


async def _finish(tasks: Sequence[asyncio.Future[None]]) -> None:
    """Let all tasks end; one that does not is cancelled, and its request is unexplained."""
    _, late = await asyncio.wait(tasks, timeout=2 * TIMEOUT_S)
    for task in late:
        task.cancel()
    for ended in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(ended, Exception):
            raise ended


async def _tell(ledger: Ledger, chaos: Chaos, vitals: Vitals, ended: asyncio.Event) -> None:
    """Print a line every minute."""
    while not ended.is_set():
        try:
            await asyncio.wait_for(ended.wait(), 60)
        except TimeoutError:
            counts = ", ".join(f"{ledger.total(o)} {o.value}" for o in Outcome)
            resident = ", ".join(f"{v.process} {v.rss_mb:.0f} MB" for v in vitals.processes[-3:])
            minute = (perf_counter() - vitals.began) / 60
            print(f"{minute:.0f} min: {counts}; {len(chaos.events)} events; {resident}", flush=True)
            for failure in [*ledger.unexplained[-3:], *chaos.failures[-3:]]:
                print(f"  {failure}", flush=True)


async def _not_let_go(running: server.Running, workers: int) -> list[str]:
    """Return what the service still holds though nobody asks, and what it counted as a fault."""
    end = perf_counter() + QUIET_SECONDS
    while True:
        held, faults = await _metrics(running.port)
        if not held or perf_counter() > end:
            break
        await asyncio.sleep(0.2)
    found = [f"at the end {name} is {value:g}" for name, value in held.items()]
    found += [f"the service counted {faults:g} faults of its own"] if faults else []
    if (living := len(running.workers())) != workers:
        found.append(f"at the end there are {living} workers")
    return found


async def _metrics(port: int) -> tuple[dict[str, float], float]:
    """Return gauges that are not zero, and how many requests ended with `internal`."""
    (connection,) = await client.connect(port, 1)
    await connection.send(b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    held: dict[str, float] = {}
    faults = 0.0
    for family in text_string_to_metric_families(connection.body.decode()):
        for sample in family.samples:
            if sample.name in _GAUGES and sample.value:
                held[sample.name] = held.get(sample.name, 0) + sample.value
            if sample.name == "zoo_requests_total" and sample.labels["code"] == "internal":
                faults += sample.value
    connection.close()
    return held, faults


def _log(path: Path) -> list[tuple[str, int]]:
    """Return warnings and errors, without figures and checksums, by frequency."""
    lines = path.read_text(errors="replace").splitlines()
    told = (line for line in lines if line.strip() and "[INFO]" not in line)
    return Counter(re.sub(r"\b[0-9a-f]{8,}\b|\d+", "N", line) for line in told).most_common(30)
