"""Load a service with three times its peak for a minute, and see what follows.

    python -m loadtests.benchmarks.sustained

Every request has a deadline of a second. Those that are accepted must be answered within it, the
others refused within 50 ms (99th percentiles; what ends with a 504 was accepted, and is late); the
workers' memory must stay below the ceiling that they announced; and right afterwards requests at
70 % of the peak must all be answered. The command fails otherwise. The client shares the machine's
cores with the service, which flatters nobody.
"""

from __future__ import annotations

import argparse
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from loadtests.benchmarks.limit import http
from loadtests.benchmarks.overload import DEADLINE_MS, LOAD, OVERLOAD, evenly
from loadtests.clients import client
from loadtests.harness import bench, server
from loadtests.harness.photographs import usual_pictures

REFUSAL_MS = 50.0
_PAGE = 4096
_SAMPLE_SECONDS = 0.05


class Memory:
    """A context manager that measures the workers' most resident memory together, in bytes."""

    def __init__(self, running: server.Running) -> None:
        self._workers = running.workers()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.peak = 0

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(_SAMPLE_SECONDS):
            sizes = (Path(f"/proc/{pid}/statm").read_text().split()[1] for pid in self._workers)
            self.peak = max(self.peak, _PAGE * sum(map(int, sizes)))


def ceiling(port: int) -> float:
    """Return the sum of the memory ceilings that the workers announced, in bytes."""
    with server.OPENER.open(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        lines = answer.read().decode().splitlines()
    terms = [line for line in lines if line.startswith("zoo_memory_ceiling_bytes{")]
    return sum(float(line.split()[-1]) for line in terms if "grpc_messages" not in line)


def measure(seconds: float) -> dict[str, float]:
    """Overload a service for ``seconds`` and return the figures."""
    encoded = usual_pictures()
    plain = [client.raw(picture) for picture in encoded]
    deadline = f"X-Request-Timeout-Ms: {DEADLINE_MS}\r\n"
    hurried = [client.raw(picture, headers=deadline) for picture in encoded]
    with server.serving(zoo_max_connections=4096) as running:
        client.run(http(running.port, 16, plain, 2.0))  # warm
        peak = client.run(http(running.port, 16, plain, 5.0)).rate
        before = client.run(client.open_loop(running.port, plain, evenly(LOAD * peak, 5.0)))
        arrivals = evenly(OVERLOAD * peak, seconds)
        with Memory(running) as memory:
            beyond = client.run(client.open_loop(running.port, hurried, arrivals, most=4000))
        after = client.run(client.open_loop(running.port, plain, evenly(LOAD * peak, 1.0)))
        most = ceiling(running.port)
    total = beyond.statuses.total()
    return {
        "peak in pictures/s": peak,
        "seconds at 3x": seconds,
        "requests at 3x": total,
        "answered at 3x, share of the peak": beyond.statuses[200] / beyond.seconds / peak,
        "accepted, p99 in ms": accepted_p99_ms(beyond),
        "refused (429), p99 in ms": _ms(beyond.of_status(429), 99),
        "neither 200 nor 429 nor 504, share": 1
        - sum(beyond.statuses[each] for each in (200, 429, 504)) / total,
        "504, share": beyond.statuses[504] / total,
        "memory of the workers, peak in MB": memory.peak / 1e6,
        "memory ceiling in MB": most / 1e6,
        "p50 at 70 % before, in ms": _ms(before.latencies_s, 50),
        "p50 at 70 % in the second after it, in ms": _ms(after.latencies_s, 50),
        "not answered with 200 in the second after it": after.statuses.total()
        - after.statuses[200],
    }


def accepted_p99_ms(load: client.Load) -> float:
    """Return p99 in milliseconds of what was answered, or accepted and then too late."""
    return _ms([*load.latencies_s, *load.of_status(504)], 99)


def failures(found: dict[str, float]) -> list[str]:
    """Return what does not hold, in words."""
    checks = {
        "accepted requests were answered after their deadline": (
            found["accepted, p99 in ms"] > DEADLINE_MS
        ),
        f"refusals took more than {REFUSAL_MS:g} ms": (
            found["refused (429), p99 in ms"] > REFUSAL_MS
        ),
        "there were other answers": found["neither 200 nor 429 nor 504, share"] > 0,
        "more memory than announced": (
            found["memory of the workers, peak in MB"] > found["memory ceiling in MB"]
        ),
        "afterwards not all was answered": (
            found["not answered with 200 in the second after it"] > 0
        ),
    }
    return [what for what, fails in checks.items() if fails]


def _ms(seconds: Sequence[float], percentile: float) -> float:
    return float(np.percentile(seconds, percentile)) * 1e3 if seconds else 0.0


def main() -> int:
    """Run, print the table, write the CSV; 1 when something does not hold."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.benchmarks.sustained", description=__doc__
    )
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--output", type=Path, default=bench.RESULTS / "sustained.csv")
    args = parser.parse_args()
    found = measure(args.seconds)
    about = bench.machine("onnxruntime", "bentoml")
    return bench.verdict(found, failures(found), args.output, about)


if __name__ == "__main__":
    sys.exit(main())
