"""Send cases in rounds, many at a time; the service is checked after each round."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import NamedTuple

import grpc.aio
import numpy as np

from loadtests.fuzz import http2, rpc, wire
from loadtests.fuzz.hostile import http_case
from loadtests.fuzz.inference import oip_case
from loadtests.fuzz.requests import with_picture
from loadtests.fuzz.target import State, Target
from loadtests.fuzz.verdict import Case, Counts, Outcome

CONNECTIONS = 16
Made = Callable[[int, int], Case]
"""A seed and a number -> the case."""
Sender = Callable[[Case], Awaitable[Outcome]]

OTHERS: dict[str, dict[str, Made]] = {
    "http": {"http": http_case},
    "oip": {"oip": oip_case},
    "grpc": {"grpc": rpc.grpc_case, "http2": http2.http2_case},
}
"""By transport, the families of cases that are no pictures."""


def families(formats: Sequence[str], transports: Sequence[str]) -> dict[str, Made]:
    """Return the families that are sent to a service; pictures belong to http."""
    found: dict[str, Made] = {}
    if "http" in transports:
        found |= {kind: partial(with_picture, kind) for kind in formats}
    for transport, own in OTHERS.items():
        found |= own if transport in transports else {}
    return found


async def send(target: Target, cases: Iterator[Case], counts: Counts) -> None:
    """Send all cases, `CONNECTIONS` at a time; judge and count each."""
    await asyncio.gather(*(_worker(target, cases, counts) for _ in range(CONNECTIONS)))


async def _worker(target: Target, cases: Iterator[Case], counts: Counts) -> None:
    connection = wire.Connection(target.port)
    channel = rpc.channel(target.grpc_port)
    try:
        for case in cases:
            try:
                outcome = await _sent(target, connection, channel, case)
            except (TimeoutError, OSError) as error:
                outcome = Outcome("none", 0.0, f"no connection: {error!r}")
            counts.add(case, outcome)
    finally:
        connection.close()
        await channel.close()


async def _sent(
    target: Target, connection: wire.Connection, channel: grpc.aio.Channel, case: Case
) -> Outcome:
    if case.transport == "grpc":
        return await rpc.called(channel, case, target.limits)
    if case.transport == "http2":
        return await _frames(target, case)
    if case.options["whole"]:
        return await wire.whole(connection, case, target.limits)
    return await wire.broken(target.port, case, target.limits)


async def _frames(target: Target, case: Case) -> Outcome:
    """Send frames; whatever comes back, the connection must end when we hang up."""
    received, trouble = await wire.converse(target.grpc_port, [case.data], wire.SILENCE_S)
    return Outcome("answered" if received else "closed", 0.0, trouble)


async def replay(target: Target, case: Case) -> Outcome:
    """Send one case alone and judge it."""
    counts = Counts()
    await _worker(target, iter([case]), counts)
    with suppress(IndexError):
        return Outcome(next(iter(counts.labels)), counts.slowest, counts.faults[0][1])
    return Outcome(next(iter(counts.labels)), counts.slowest)


class Slope(NamedTuple):
    """The growth of memory over rounds, by least squares."""

    baseline: int
    """Bytes after the first round, by when everything was used once."""
    end: int
    per_10000: float
    """Bytes for 10,000 cases."""
    half: float
    """Half of its interval of 95 %; infinite for less than four rounds."""


def slope(cases: Sequence[int], states: Sequence[State]) -> Slope:
    """Fit resident memory against the number of cases sent."""
    resident = [float(state.resident) for state in states]
    baseline, end = states[0].resident, states[-1].resident
    if len(states) < 4 or cases[-1] == cases[0]:
        return Slope(baseline, end, 0.0, float("inf"))
    x, y = np.asarray(cases, float) / 10_000, np.asarray(resident)
    (rate, start), off = np.polyfit(x, y, 1), x - x.mean()
    rest = y - (start + rate * x)
    error = np.sqrt((rest**2).sum() / (len(x) - 2) / (off**2).sum())
    return Slope(baseline, end, float(rate), float(2.0 * error))
