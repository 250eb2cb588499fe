"""Measure where the cores' time goes behind HTTP and gRPC.

    python -m loadtests.benchmarks.profile

The in-process limit and the service take turns in slices of some seconds. Of each slice it is read
from Linux' accounting how long the threads computed: those of the pool, which do what the limit
does, the event loop, which is everything else that the service adds, those of gRPC's core, and the
client, which has to share the machine. One more thread of grpcio, which wakes the event loop, has
no name of its own and is counted with the pool. What the cores did not do at all is idle. So the
table says what is left of the limit, and what took the rest.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from loadtests.benchmarks import limit
from loadtests.clients import client, grpc_client
from loadtests.harness import bench, plots, server
from loadtests.harness.photographs import usual_pictures
from service.config.cpus import available_cores

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PARTS = LIMIT, POOL, LOOP, GRPC, CLIENT, IDLE = (
    "in-process limit, all of it",
    "service, threads of the pool",
    "service, event loop",
    "service, threads of gRPC's core",
    "client",
    "idle",
)


TRANSPORTS = {"http": "HTTP", "grpc": "gRPC"}


class Computed(NamedTuple):
    """Seconds that the threads of a worker have computed."""

    pool: float
    loop: float
    grpc: float


def computed(pid: int) -> Computed:
    """Read what a worker's threads have computed until now, by Linux' accounting."""
    pool = loop = grpc = 0.0
    for thread in Path(f"/proc/{pid}/task").iterdir():
        try:
            seconds = int((thread / "schedstat").read_text().split()[0]) / 1e9
            name = (thread / "comm").read_text()
        except (FileNotFoundError, ProcessLookupError):  # it has just ended
            continue
        if thread.name == str(pid):
            loop += seconds
        elif name.startswith(("event_engine", "grpc")):
            grpc += seconds
        else:
            pool += seconds
    return Computed(pool, loop, grpc)


def measure(
    models: Path, name: str, connections: int, rounds: int, s: float
) -> dict[str, bench.Rounds]:
    """Return by transport, spender and round the milliseconds of one core per picture."""
    cores = available_cores()
    encoded = usual_pictures()
    requests = [client.raw(picture) for picture in encoded]
    messages = [grpc_client.message(picture) for picture in encoded]
    found: dict[str, bench.Rounds] = {each: {who: [] for who in PARTS} for each in TRANSPORTS}
    with (
        limit.loops(models, name, encoded, 1) as running,
        server.serving(zoo_models=models, zoo_default_model=name) as serving,
    ):
        (worker,) = serving.workers()

        def load(transport: str) -> client.Load:
            if transport == "http":
                return client.run(limit.http(serving.port, connections, requests, s))
            return client.run(grpc_client.calls(serving.grpc_port, connections, messages, s))

        for transport in TRANSPORTS:
            load(transport)  # warm
        for turn in range(rounds):
            for transport, parts in found.items():
                parts[LIMIT].append(1e3 * cores / limit.limit(running, cores, s))
                before = computed(worker)
                own, started = time.process_time(), time.perf_counter()
                done = load(transport)
                if set(done.statuses) != {200}:
                    raise RuntimeError(f"{transport}: {dict(done.statuses)}")
                whole = cores * (time.perf_counter() - started)
                after = computed(worker)
                spent = [now - then for now, then in zip(after, before, strict=True)]
                spent.append(time.process_time() - own)
                spent.append(whole - sum(spent))
                for who, seconds in zip(PARTS[1:], spent, strict=True):
                    parts[who].append(1e3 * seconds / done.statuses[200])
            print(f"round {turn + 1} of {rounds}", flush=True)
    return found


def rows(found: dict[str, bench.Rounds]) -> list[dict[str, object]]:
    """Return the table; shares are of all that a picture costs over its transport."""
    table: list[dict[str, object]] = []
    for transport, parts in found.items():
        whole = [sum(each) for each in zip(*(parts[who] for who in PARTS[1:]), strict=True)]
        for who, values in parts.items():
            share = bench.spread(ms / all_ms for ms, all_ms in zip(values, whole, strict=True))
            table.append(
                {
                    "who": who,
                    "transport": transport,
                    "core_ms_per_picture": bench.spread(values).median,
                    "share": share.median,
                    "share_q1": share.low,
                    "share_q3": share.high,
                }
            )
    return table


def draw(found: plots.Rows) -> Figure:
    """Draw the shares of what a picture costs over each transport."""
    bars = [
        plots.Bar(
            f"{TRANSPORTS[row['transport']]}: {row['who']} "
            f"({float(row['core_ms_per_picture']):.2f} ms)",
            plots.spread_of(row, "share", "share_q1", "share_q3"),
            "in process" if row["who"] == LIMIT else f"over {TRANSPORTS[row['transport']]}",
        )
        for row in found
    ]
    title = "What a picture costs over HTTP and gRPC, by who spends it"
    figure, (axes,) = plots.panels(title, [plots.height(bars)], found)
    plots.bars(axes, bars, "share of the cores' time (median, quartiles)", target=1)
    return figure


def main() -> None:
    """Run, print the table, write the CSV and its plot."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.benchmarks.profile", description=__doc__
    )
    parser.add_argument("--models", type=Path, default=server.ROOT / "models")
    parser.add_argument("--model", default="efficientnet_lite0")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=2.0, help="of a slice")
    parser.add_argument("--output", type=Path, default=bench.RESULTS / "profile.csv")
    args = parser.parse_args()
    if not Path("/proc/self/task").is_dir():
        raise SystemExit("only Linux tells how long a thread computed")
    found = measure(args.models, args.model, args.connections, args.rounds, args.seconds)
    table = rows(found)
    print(bench.table(table))
    plots.write(args.output, table, bench.machine("onnxruntime", "pillow", "bentoml"), draw)


if __name__ == "__main__":
    main()
