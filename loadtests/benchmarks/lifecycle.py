"""Stop a service under load, and kill one of its workers under load.

    python -m loadtests.benchmarks.lifecycle

Requests come evenly at 70 % of the peak that was measured before, four of five over HTTP and the
rest over gRPC. First the service is told to stop: every request that it accepted must be answered.
Then a worker of two is killed: no more requests may fail than it had in flight, and the rate must
be back within two seconds. The command fails otherwise.

A request counts as refused when no connection could be made, and as lost when it was sent and got
no answer. Between the two are those whose connection the kernel had made and reset, since nobody
accepted it before the port was closed: nothing of them was sent. After a stop they are nobody's
loss, after a kill they count as failed, because another worker lived. What a client sends on a
connection to the dead worker before it hears of that is counted by itself: nobody received it, so
it can be sent again.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from time import perf_counter, sleep

import numpy as np

from loadtests.benchmarks.limit import http
from loadtests.clients import client
from loadtests.clients.traffic import Outcome, Traffic
from loadtests.harness import bench, server
from loadtests.harness.photographs import usual_pictures

LOAD = 0.7
WORKERS = 2
DRAIN_MS = 1000
BACK_SECONDS = 2.0
START_SECONDS = 120.0
QUIET_SECONDS = 4
"""Seconds in which the service has next to nothing to do: the spare process begins after two."""
_FEW_TICKS = 10
_STEP_SECONDS = 0.25
_WINDOW_SECONDS = 1.0
_ENOUGH = 0.9
"""Share of a window's requests that must be answered for the rate to be back."""


async def stop(running: server.Running, rate: float, seconds: float) -> dict[str, object]:
    """Load, SIGTERM in the middle of it, and load until everything is refused."""
    traffic = Traffic(running.port, running.grpc_port, usual_pictures())
    asking = asyncio.ensure_future(traffic.run(rate))
    await asyncio.sleep(seconds)
    before = len(traffic.outcome.answered_at)
    told = perf_counter()
    running.process.send_signal(signal.SIGTERM)
    await until(lambda: running.process.poll() is not None, 60)
    ended = perf_counter()
    await asyncio.sleep(0.5)
    traffic.end()
    await asking
    outcome = traffic.outcome
    return {
        "stop: rate of requests per s": rate,
        "stop: answered before SIGTERM": before,
        "stop: answered after it": len(outcome.answered_at) - before,
        "stop: refused (no connection)": sum(
            count for kind, count in outcome.counts.items() if kind.endswith("refused")
        ),
        "stop: reset while it connected": len(outcome.reset),
        "stop: other statuses": _others(outcome),
        "stop: accepted and lost": len(outcome.lost),
        "stop: seconds to the end of the process": ended - told,
        "stop: exit status": running.process.returncode,
        "_lost": outcome.lost + outcome.reset,
    }


async def kill(running: server.Running, rate: float, seconds: float) -> dict[str, object]:
    """Load, SIGKILL to one worker in the middle of it."""
    traffic = Traffic(running.port, running.grpc_port, usual_pictures())
    asking = asyncio.ensure_future(traffic.run(rate))
    await asyncio.sleep(seconds)
    spare = [pid for pid in server.descendants(running.process.pid) if _name(pid) == "zoo-spare"]
    spare_mb = sum(map(server.proportional_bytes, spare)) / 1e6
    owners = {each: running.owner(each.port) for each in {*traffic.idle, *traffic.busy}}
    victim = Counter(owners.values()).most_common(1)[0][0]
    os.kill(victim, signal.SIGKILL)
    killed = perf_counter()
    # a connection that was made since the look may be the victim's as well
    in_flight = sum(owners.get(each, victim) == victim for each in traffic.busy)
    in_flight += traffic.calls
    await asyncio.sleep(seconds)
    traffic.end()
    await asking
    failed = traffic.outcome.lost + traffic.outcome.reset
    late = sum(sent >= killed for sent, _ in failed)
    return {
        "kill: rate of requests per s": rate,
        "kill: spare processes": len(spare),
        "kill: memory of the spare process, shared pages divided, in MB": spare_mb,
        "kill: in flight in that worker, or over gRPC": in_flight,
        "kill: failed": len(failed) - late,
        "kill: sent to the dead before the client heard of it": late,
        "kill: refused (no connection)": sum(
            count for kind, count in traffic.outcome.counts.items() if kind.endswith("refused")
        ),
        "kill: other statuses": _others(traffic.outcome),
        "kill: seconds until the rate is back": back_after(traffic.outcome, killed),
        "kill: longest time without an answer, in s": silence(traffic.outcome, killed),
        "kill: workers at the end": len(running.workers()),
        "_lost": failed,
    }


def back_after(outcome: Outcome, since: float) -> float:
    """Seconds from ``since`` until as many are answered as come, in every second from there on.

    A shorter window would see an answer that is a moment late as one that is missing.
    """
    if max(outcome.came_at) - since < 2 * _WINDOW_SECONDS:
        raise ValueError("too little was asked afterwards to say so")
    starts = np.arange(since, max(outcome.came_at) - _WINDOW_SECONDS, _STEP_SECONDS)
    came, answered = (
        np.searchsorted(moments, starts + _WINDOW_SECONDS) - np.searchsorted(moments, starts)
        for moments in (np.sort(outcome.came_at), np.sort(outcome.answered_at))
    )
    behind = np.flatnonzero(answered < _ENOUGH * came)
    return float((behind[-1] + 1) * _STEP_SECONDS) if behind.size else 0.0


def silence(outcome: Outcome, since: float) -> float:
    """Return the longest time without an answer from ``since`` on, in seconds."""
    answered = [since, *(each for each in sorted(outcome.answered_at) if each > since)]
    return float(np.diff(answered).max())


def failures(found: dict[str, object]) -> list[str]:
    """Return what does not hold, in words."""
    checks = {
        "an accepted request was lost at the stop": found["stop: accepted and lost"] != 0,
        "the stop did not end with status 0": found["stop: exit status"] != 0,
        "requests were answered otherwise": found["stop: other statuses"] != 0
        or found["kill: other statuses"] != 0,
        "a connection was refused although a worker lived": (
            found["kill: refused (no connection)"] != 0
        ),
        "more failed than the dead worker had in flight": (
            found["kill: failed"] > found["kill: in flight in that worker, or over gRPC"]  # type: ignore[operator]
        ),
        "the rate was not back in time": (
            found["kill: seconds until the rate is back"] > BACK_SECONDS  # type: ignore[operator]
        ),
        "the worker was not replaced": found["kill: workers at the end"] != WORKERS,
    }
    return [what for what, fails in checks.items() if fails]


def measure(
    seconds: float, share: float = LOAD, peak_s: float | None = None, **settings: str
) -> dict[str, object]:
    """Measure the peak of a service and stop it under load; then kill a worker of another.

    The peak is measured for ``peak_s``, or where that is None for ``seconds`` as the others.
    """
    found: dict[str, object] = {}
    peak, peak_s = 0.0, seconds if peak_s is None else peak_s
    for case, drain_ms, spare in ((stop, DRAIN_MS, False), (kill, 0, True)):
        own = {"zoo_workers": WORKERS, "zoo_drain_ms": drain_ms, "zoo_spare": spare, **settings}
        with server.serving(**own) as running:  # type: ignore[arg-type]
            _all_serve(running)
            if not found:
                requests = [client.raw(picture) for picture in usual_pictures()]
                client.run(http(running.port, 16, requests, peak_s / 2))  # warm
                peak = client.run(http(running.port, 16, requests, peak_s)).rate
                found["peak in pictures per s"] = peak
            one = client.run(case(running, share * peak, seconds))
        for _, line in one.pop("_lost")[:10]:  # type: ignore[index]
            print(f"{case.__name__}: {line}", file=sys.stderr)
        found |= one
    return found


def _all_serve(running: server.Running) -> None:
    """Wait until all workers and the spare process have started and none computes any more."""
    end, quiet = perf_counter() + START_SECONDS, 0
    before = _ticks(running)
    while quiet < QUIET_SECONDS and perf_counter() < end:
        sleep(1.0)
        now = _ticks(running)
        quiet = quiet + 1 if now - before <= _FEW_TICKS else 0
        before = now


def _ticks(running: server.Running) -> int:
    """Return the processor time that the service has taken, in clock ticks."""
    fields = (
        Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        for pid in server.family(running.process.pid)
    )
    return sum(int(each[11]) + int(each[12]) for each in fields)


async def until(condition: Callable[[], bool], seconds: float) -> None:
    """Wait until ``condition`` holds, for ``seconds`` at most."""
    end = perf_counter() + seconds
    while not condition() and perf_counter() < end:  # noqa: ASYNC110  nothing tells of it
        await asyncio.sleep(0.01)


def _others(outcome: Outcome) -> int:
    known = ("ok", "lost", "refused", "reset")
    return sum(count for kind, count in outcome.counts.items() if kind.split()[1] not in known)


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def main() -> int:
    """Run, print the table, write the CSV; 1 when something does not hold."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.benchmarks.lifecycle", description=__doc__
    )
    parser.add_argument("--seconds", type=float, default=10.0, help="of load on each side")
    parser.add_argument("--share", type=float, default=LOAD, help="of the peak")
    parser.add_argument("--output", type=Path, default=bench.RESULTS / "lifecycle.csv")
    args = parser.parse_args()
    found = measure(args.seconds, args.share)
    about = bench.machine("onnxruntime", "bentoml", "grpcio")
    return bench.verdict(found, failures(found), args.output, about)


if __name__ == "__main__":
    sys.exit(main())
