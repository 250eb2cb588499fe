"""Load every contender in turn, round after round, and make rows of the figures."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from loadtests.clients import client
from loadtests.harness import bench, server
from loadtests.harness.server import Running
from loadtests.peers.contenders import (
    ANSWER_SECONDS,
    OURS,
    Contender,
    first_classes,
)

BEST_PEER = "best peer"
SETTLE_S = 0.3
"""Seconds of load that are not counted after a server was suspended."""


class Tried(NamedTuple):
    """The answers and the memory of a contender that runs alone."""

    first: list[int]
    """The most probable class of every picture."""
    memory_bytes: int
    """Bytes of all its processes, after a slice of load."""


def alone(contender: Contender, connections: int, seconds: float) -> Tried:
    """Start a contender, ask for every picture, load it for a slice, stop it.

    Memory is measured here, where no other contender shares pages with it. Raises
    server.ServerFailed when it does not start and RuntimeError for a wrong answer.
    """
    with contender.start() as running:
        first = client.run(first_classes(contender, running.port))
        _slice(contender, running, connections, seconds)
        everyone = server.family(running.process.pid)
        return Tried(first, sum(map(server.proportional_bytes, everyone)))


def disagreements(first: Mapping[str, Sequence[int]], reference: str) -> dict[str, list[int]]:
    """Return by name the pictures, by number, whose first class is not ``reference``'s."""
    return {
        name: [
            number
            for number, pair in enumerate(zip(classes, first[reference], strict=True))
            if len(set(pair)) > 1
        ]
        for name, classes in first.items()
    }


@dataclass
class Rates:
    """The figures of all rounds, by contender."""

    rates: bench.Rounds = field(default_factory=dict)
    """Pictures per second, one figure per round."""
    latencies_s: dict[str, list[float]] = field(default_factory=dict)

    def note(self, name: str, load: client.Load) -> None:
        """Count a slice."""
        self.rates.setdefault(name, []).append(load.rate)
        self.latencies_s.setdefault(name, []).extend(load.latencies_s)


def alternate(
    contenders: Sequence[Contender], connections: int, rounds: int, seconds: float
) -> Rates:
    """Load the contenders in turn; the order turns from round to round.

    All are up, and all but the one under load are suspended: some poll while they are idle.
    """
    found = Rates()
    with contextlib.ExitStack() as stack:
        running: dict[str, Running] = {}
        for contender in contenders:
            started = stack.enter_context(contender.start())
            running[contender.name] = started
            _slice(contender, started, connections, SETTLE_S)
            server.suspend(started.process.pid)
        for turn in range(rounds):
            first = turn % len(contenders)
            for contender in [*contenders[first:], *contenders[:first]]:
                pid = running[contender.name].process.pid
                server.resume(pid)
                _slice(contender, running[contender.name], connections, SETTLE_S)
                load = _slice(contender, running[contender.name], connections, seconds)
                found.note(contender.name, load)
                server.suspend(pid)
            print(f"round {turn + 1} of {rounds}", flush=True)
    return found


def _slice(contender: Contender, running: Running, connections: int, seconds: float) -> client.Load:
    load = client.run(_load(contender, running.port, connections, seconds))
    if set(load.statuses) != {200}:
        raise RuntimeError(f"{contender.name} answered {dict(load.statuses)}")
    return load


async def _load(contender: Contender, port: int, connections: int, seconds: float) -> client.Load:
    opened = await client.connect(port, connections)
    loop = client.closed_loop(opened, contender.requests, seconds)
    try:
        return await asyncio.wait_for(loop, seconds + ANSWER_SECONDS)
    except TimeoutError:
        waiting = sum(connection.waiting for connection in opened)
        raise RuntimeError(
            f"{contender.name} left {waiting} of {connections} requests unanswered"
        ) from None
    finally:
        for connection in opened:
            connection.close()


def best_of(rates: bench.Rounds, peers: Iterable[str]) -> list[float]:
    """Return the rates of the peer with the highest median."""
    return rates[max(peers, key=lambda name: bench.spread(rates[name]).median)]


def rows(
    contenders: Sequence[Contender], found: Rates, tried: Mapping[str, Tried]
) -> list[dict[str, object]]:
    """Return the table: speed, latency, memory, and how much faster the service is."""
    rates = dict(found.rates)
    peers = [each.name for each in contenders if each.name not in OURS.values()]
    if peers:
        rates[BEST_PEER] = best_of(rates, peers)
    by_name = {each.name: each for each in contenders}
    table = []
    for name in rates:
        row: dict[str, object] = {
            "contender": name,
            "pictures_per_s": bench.spread(rates[name]).median,
        }
        row |= _latencies(found.latencies_s.get(name, []))
        row["memory_mb"] = tried[name].memory_bytes / 1e6 if name in tried else ""
        for prefix, of in OURS.items():
            if of not in rates:
                continue
            ratio = bench.paired_ratio(rates, of, name)
            row |= {
                f"{prefix}_over_it": ratio.median,
                f"{prefix}_q1": ratio.low,
                f"{prefix}_q3": ratio.high,
            }
        blank = {"server": "", "onnxruntime": "", "pillow": ""}
        table.append(row | (by_name[name].versions if name in by_name else blank))
    return table


def _latencies(seconds: Sequence[float]) -> dict[str, object]:
    if not seconds:
        return {"p50_ms": "", "p99_ms": ""}
    p50, p99 = np.percentile(seconds, [50, 99]) * 1e3
    return {"p50_ms": float(p50), "p99_ms": float(p99)}
