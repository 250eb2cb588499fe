"""Measure what traces cost a worker, in CPU time per request.

    python -m loadtests.benchmarks.tracing

Services take turns in short slices: without traces, twice, so that the difference between the two
says how fine the measure is; with traces of which none is sampled, one in a hundred, and all, which
are sent to a sink beside them. With ``--without FOLDER`` the first is the service of another
checkout, one from before there were traces: what the code for them costs while it is off.
"""

from __future__ import annotations

import argparse
import contextlib
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from loadtests.benchmarks import limit
from loadtests.benchmarks.profile import computed
from loadtests.clients import client
from loadtests.harness import bench, server
from loadtests.harness.photographs import usual_pictures

OFF, AGAIN, NONE, FEW, ALL, WITHOUT = (
    *("off", "off, again", "none sampled", "1 % sampled", "all sampled"),
    "without the code for traces",
)
SAMPLED = {NONE: "0", FEW: "0.01", ALL: "1"}


class _Sink(BaseHTTPRequestHandler):
    """Accepts what a collector would, and throws it away."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@contextlib.contextmanager
def sink() -> Iterator[str]:
    """Run a sink and yield its address."""
    running = ThreadingHTTPServer(("127.0.0.1", server.free_port()), _Sink)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{running.server_address[1]}"
    finally:
        running.shutdown()
        running.server_close()


def slice_of(running: server.Running, connections: int, seconds: float) -> float:
    """Load the service; return the worker's milliseconds of CPU per request."""
    (worker,) = running.workers()
    requests = [client.raw(picture) for picture in usual_pictures()]
    before = sum(computed(worker))
    load = client.run(limit.http(running.port, connections, requests, seconds))
    if set(load.statuses) != {200}:
        raise RuntimeError(f"{dict(load.statuses)}")
    return 1e3 * (sum(computed(worker)) - before) / load.statuses[200]


def measure(
    name: str, connections: int, rounds: int, seconds: float, without: Path | None
) -> bench.Rounds:
    """Return CPU milliseconds per request of each contender in every round."""
    common = {"zoo_default_model": name, "zoo_load": "used"}
    with contextlib.ExitStack() as stack:
        endpoint = stack.enter_context(sink())
        contenders = {}
        for each in (*([] if without is None else [WITHOUT]), OFF, AGAIN, NONE, FEW, ALL):
            settings: dict[str, Any] = dict(common)
            if each in SAMPLED:
                settings |= {
                    "otel_exporter_otlp_endpoint": endpoint,
                    "otel_traces_sampler": "traceidratio",
                    "otel_traces_sampler_arg": SAMPLED[each],
                    "otel_bsp_max_queue_size": "65536",
                }
            folder = without if each == WITHOUT and without is not None else server.ROOT
            running = stack.enter_context(server.serving(cwd=folder, **settings))
            contenders[each] = partial(slice_of, running, connections, seconds)
        bench.take_turns(contenders, 1)  # warm
        return bench.take_turns(contenders, rounds)


def rows(found: bench.Rounds) -> list[dict[str, object]]:
    """Return the table: CPU per request, and its ratio to that without traces."""
    table: list[dict[str, object]] = []
    base = WITHOUT if WITHOUT in found else OFF
    for name, values in found.items():
        share = bench.paired_ratio(found, name, base)
        table.append(
            {
                "traces": name,
                "cpu_ms_per_request": bench.spread(values).median,
                "ratio": share.median,
                "ratio_q1": share.low,
                "ratio_q3": share.high,
            }
        )
    return table


def main() -> None:
    """Run, print the table, write the CSV."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.benchmarks.tracing", description=__doc__
    )
    parser.add_argument("--model", default="lenet5", help="the smaller, the more it shows")
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=1.0, help="of a slice")
    parser.add_argument("--without", type=Path, help="a checkout without the code for traces")
    parser.add_argument("--output", type=Path, default=bench.RESULTS / "tracing.csv")
    args = parser.parse_args()
    table = rows(measure(args.model, args.connections, args.rounds, args.seconds, args.without))
    print(bench.table(table))
    bench.write_csv(
        args.output, table, bench.machine("opentelemetry-sdk", "opentelemetry-exporter-otlp")
    )


if __name__ == "__main__":
    main()
