"""Measure how much of the machine's limit is left behind HTTP and gRPC.

    python -m loadtests.benchmarks.limit

The limit is the same pipeline called in a loop, with as many threads as cores in one process, or
with as many processes of one thread, whichever is faster by its median. It is measured anew before
and after each slice of the service, and each slice is compared with the mean of the two: a machine
whose speed drifts is as far on one side as on the other. The service writes no access log here, but
for the rows that say so. `loadtests.benchmarks.bare` is a server of nothing but grpcio's unary
calls and the pipeline.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from loadtests.benchmarks import bare
from loadtests.clients import client, grpc_client
from loadtests.harness import bench, plots, server
from loadtests.harness.bench import Rounds
from loadtests.harness.photographs import usual_pictures
from service.config.cpus import available_cores

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CONNECTIONS = (1, 4, 16, 64)
THREADS = "in process, threads"
PROCESSES = "in process, processes"
GRPC = {"gRPC calls": grpc_client.calls, "gRPC stream": grpc_client.stream}


class Loop:
    """A process that calls the pipeline in a loop, slice by slice."""

    def __init__(self, models: Path, name: str, files: Sequence[Path]) -> None:
        self._process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", "loadtests.harness.inprocess", models, name, *files],
            cwd=server.ROOT,
            env=server.clean_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self, threads: int, seconds: float) -> None:
        """Begin a slice of ``seconds`` in ``threads`` threads."""
        assert self._process.stdin is not None  # noqa: S101
        self._process.stdin.write(f"{threads} {seconds}\n")
        self._process.stdin.flush()

    def answer(self) -> str:
        """Return its next line: ``ready``, or the rate of the slice in pictures per second."""
        assert self._process.stdout is not None  # noqa: S101
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the loop ended")
        return line.strip()

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()


@contextlib.contextmanager
def loops(models: Path, name: str, encoded: Sequence[bytes], count: int) -> Iterator[list[Loop]]:
    """Start ``count`` loops over the same pictures and yield them when they are ready."""
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder, f"{number}.jpg") for number in range(len(encoded))]
        for file, data in zip(files, encoded, strict=True):
            file.write_bytes(data)
        running = [Loop(models, name, files) for _ in range(count)]
        try:
            for loop in running:
                loop.answer()
            yield running
        finally:
            for loop in running:
                loop.close()


def limit(running: Sequence[Loop], threads: int, seconds: float) -> float:
    """Return pictures per second of all loops together, each with this many threads."""
    for loop in running:
        loop.start(threads, seconds)
    return sum(float(loop.answer()) for loop in running)


async def http(port: int, connections: int, requests: Sequence[bytes], s: float) -> client.Load:
    """Load the service over HTTP for ``s`` seconds, on connections of its own."""
    opened = await client.connect(port, connections)
    try:
        return await client.closed_loop(opened, requests, s)
    finally:
        for connection in opened:
            connection.close()


async def on_one_worker(
    running: server.Running, connections: int, requests: Sequence[bytes], s: float
) -> client.Load:
    """Load the service over connections that the same worker accepted, for ``s`` seconds."""
    by_worker: dict[int, list[client.Connection]] = {}
    while max(map(len, by_worker.values()), default=0) < connections:
        (opened,) = await client.connect(running.port, 1)
        await opened.send(client.GET_LIVEZ)
        by_worker.setdefault(running.owner(opened.port), []).append(opened)
    try:
        return await client.closed_loop(max(by_worker.values(), key=len), requests, s)
    finally:
        for connection in itertools.chain(*by_worker.values()):
            connection.close()


def measure(
    models: Path, name: str, rounds: int, seconds: float, only: str = ""
) -> list[dict[str, object]]:
    """Return the table: each contender's rate, its share of the limit, its latencies.

    ``only`` those whose names hold this text. Raises LookupError where there is none.
    """
    cores = available_cores()
    encoded = usual_pictures()
    raw = [client.raw(picture) for picture in encoded]
    form = [client.multipart(picture) for picture in encoded]
    settings: dict[str, Any] = {"zoo_models": models, "zoo_default_model": name}
    with (
        loops(models, name, encoded, cores) as running,
        server.serving(**settings) as one,
        server.serving(**settings, zoo_workers=cores) as several,
        server.serving(**settings, zoo_log_level="INFO") as logged,
        server.serving(**settings, zoo_threads=cores + 1) as crowded,
        bare.serving(models, name) as bare_port,
    ):
        contenders: dict[str, Callable[[], client.Load]] = {
            f"1 worker, {body}, {connections} connections": partial(
                lambda c, r: client.run(http(one.port, c, r, seconds)), connections, requests
            )
            for body, requests in (("raw", raw), ("form", form))
            for connections in CONNECTIONS
        }
        contenders[f"{cores} workers, raw, 16 connections"] = lambda: client.run(
            http(several.port, 16, raw, seconds)
        )
        contenders[f"{cores} workers, raw, 16 connections on one of them"] = lambda: client.run(
            on_one_worker(several, 16, raw, seconds)
        )
        messages = [grpc_client.message(picture) for picture in encoded]
        for way, slice_of_load in GRPC.items():
            contenders[f"1 worker, {way}, 16 at once"] = partial(
                lambda run: client.run(run(one.grpc_port, 16, messages, seconds)), slice_of_load
            )
        contenders["1 worker, raw, 16 connections, a thread more"] = lambda: client.run(
            http(crowded.port, 16, raw, seconds)
        )
        contenders["1 worker, gRPC calls, 16 at once, a thread more"] = lambda: client.run(
            grpc_client.calls(crowded.grpc_port, 16, messages, seconds)
        )
        contenders["1 worker, raw, 16 connections, access log"] = lambda: client.run(
            http(logged.port, 16, raw, seconds)
        )
        contenders["1 worker, gRPC calls, 16 at once, access log"] = lambda: client.run(
            grpc_client.calls(logged.grpc_port, 16, messages, seconds)
        )
        contenders["nothing but gRPC, calls, 16 at once"] = lambda: client.run(
            grpc_client.calls(bare_port, 16, messages, seconds)
        )
        contenders = {each: call for each, call in contenders.items() if only in each}
        if not contenders:
            raise LookupError(f"no contender has {only!r} in its name")
        rates: Rounds = {each: [] for each in (THREADS, PROCESSES, *contenders)}
        slices: dict[str, list[int]] = {each: [] for each in contenders}
        latencies: dict[str, list[float]] = {each: [] for each in contenders}

        def measure_limits() -> None:
            rates[THREADS].append(limit(running[:1], cores, seconds))
            rates[PROCESSES].append(limit(running, 1, seconds))

        for call in contenders.values():
            call()  # warm
        for turn in range(rounds):
            for contender, call in contenders.items():
                slices[contender].append(len(rates[THREADS]))
                measure_limits()
                load = call()
                if set(load.statuses) != {200}:
                    raise RuntimeError(f"{contender}: {dict(load.statuses)}")
                rates[contender].append(load.rate)
                latencies[contender] += load.latencies_s
            print(f"round {turn + 1} of {rounds}", flush=True)
        measure_limits()
    faster = max((THREADS, PROCESSES), key=lambda kind: bench.spread(rates[kind]).median)
    limits = {
        name: [float(np.mean(rates[faster][number : number + 2])) for number in numbers]
        for name, numbers in slices.items()
    }
    limits |= dict.fromkeys((THREADS, PROCESSES), rates[faster])
    return [_row(each, rates[each], limits[each], latencies.get(each, [])) for each in rates]


def _row(
    name: str, rates: Sequence[float], limits: Sequence[float], latencies: Sequence[float]
) -> dict[str, object]:
    share = bench.spread(rate / limit for rate, limit in zip(rates, limits, strict=True))
    times = np.percentile(latencies, [50, 99]) * 1e3 if latencies else None
    return {
        "contender": name,
        "transport": "" if not latencies else "grpc" if "gRPC" in name else "http",
        "pictures_per_s": bench.spread(rates).median,
        "of_limit": share.median,
        "of_limit_q1": share.low,
        "of_limit_q3": share.high,
        "p50_ms": "" if times is None else float(times[0]),
        "p99_ms": "" if times is None else float(times[1]),
    }


def draw(rows: plots.Rows) -> Figure:
    """Draw the shares of the limit."""
    bars = [
        plots.Bar(
            f"{row['contender']} ({float(row['pictures_per_s']):.0f}/s)",
            plots.spread_of(row, "of_limit", "of_limit_q1", "of_limit_q3"),
            {"http": "over HTTP", "grpc": "over gRPC"}.get(row.get("transport", ""), "in process"),
        )
        for row in rows
    ]
    figure, (axes,) = plots.panels(
        "Pictures per second as a share of the limit", [plots.height(bars)], rows
    )
    plots.bars(axes, bars, "share of the limit (median of paired ratios, quartiles)", target=1)
    return figure


def main() -> None:
    """Run, print the table, write the CSV and its plot."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.benchmarks.limit", description=__doc__
    )
    parser.add_argument("--models", type=Path, default=server.ROOT / "models")
    parser.add_argument("--model", default="efficientnet_lite0")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=1.0, help="of a slice")
    parser.add_argument("--only", default="", help="contenders with this in their names")
    parser.add_argument("--output", type=Path, help="needed with --only")
    args = parser.parse_args()
    if args.only and args.output is None:
        parser.error("--only needs --output: limit.csv holds all contenders")
    rows = measure(args.models, args.model, args.rounds, args.seconds, args.only)
    print(bench.table(rows))
    output = args.output or bench.RESULTS / "limit.csv"
    plots.write(output, rows, bench.machine("onnxruntime", "pillow", "bentoml"), draw)


if __name__ == "__main__":
    main()
