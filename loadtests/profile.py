"""Where the cores' time goes behind HTTP: ``python -m loadtests.profile``.

The in-process limit and the service take turns in slices of some seconds. Of each slice it is read
from Linux' accounting how long the threads computed: those of the pool, which do what the limit
does, the event loop, which is everything else that the service adds, and the client, which has to
share the machine. What the cores did not do at all is idle. So the table says what is left of the
limit, and what took the rest.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

from loadtests import bench, client, limit, plots, server
from service.engine.cores import available_cores

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PARTS = LIMIT, POOL, LOOP, CLIENT, IDLE = (
    "in-process limit, all of it",
    "service, threads of the pool",
    "service, event loop",
    "client",
    "idle",
)


def computed_s(pid: int, *, main: bool | None = None) -> float:
    """Seconds that the threads of a process have computed: all, its main one, or the others."""
    seconds = 0.0
    for thread in Path(f"/proc/{pid}/task").iterdir():
        if main is None or (thread.name == str(pid)) == main:
            seconds += int((thread / "schedstat").read_text().split()[0]) / 1e9
    return seconds


def measure(models: Path, name: str, connections: int, rounds: int, s: float) -> bench.Rounds:
    """Milliseconds of one core per picture, by who spent them, in every round."""
    cores = available_cores()
    encoded = limit.pictures()
    requests = [client.raw(picture) for picture in encoded]
    found: bench.Rounds = {each: [] for each in PARTS}
    with (
        limit.loops(models, name, encoded, 1) as running,
        server.serving(zoo_models=models, zoo_default_model=name) as serving,
    ):
        (worker,) = serving.workers()
        client.run(limit.http(serving.port, connections, requests, s))  # warm
        for turn in range(rounds):
            found[LIMIT].append(1e3 * cores / limit.limit(running, cores, s))
            before = computed_s(worker, main=False), computed_s(worker, main=True)
            own, started = time.process_time(), time.perf_counter()
            load = client.run(limit.http(serving.port, connections, requests, s))
            if set(load.statuses) != {200}:
                raise RuntimeError(f"{dict(load.statuses)}")
            whole = cores * (time.perf_counter() - started)
            spent = [
                computed_s(worker, main=False) - before[0],
                computed_s(worker, main=True) - before[1],
                time.process_time() - own,
            ]
            spent.append(whole - sum(spent))
            for each, seconds in zip((POOL, LOOP, CLIENT, IDLE), spent, strict=True):
                found[each].append(1e3 * seconds / load.statuses[200])
            print(f"round {turn + 1} of {rounds}", flush=True)
    return found


def rows(found: bench.Rounds) -> list[dict[str, object]]:
    """The table; shares are of what a picture costs over HTTP, all in all."""
    parts = (found[who] for who in (POOL, LOOP, CLIENT, IDLE))
    whole = [sum(each) for each in zip(*parts, strict=True)]
    table: list[dict[str, object]] = []
    for who, values in found.items():
        share = bench.spread(ms / all_ms for ms, all_ms in zip(values, whole, strict=True))
        table.append(
            {
                "who": who,
                "core_ms_per_picture": bench.spread(values).median,
                "share": share.median,
                "share_q1": share.low,
                "share_q3": share.high,
            }
        )
    return table


def draw(found: plots.Rows) -> Figure:
    """Shares of what a picture costs over HTTP."""
    bars = [
        plots.Bar(
            f"{row['who']} ({float(row['core_ms_per_picture']):.2f} ms)",
            plots.spread_of(row, "share", "share_q1", "share_q3"),
            "in process" if row["who"] == LIMIT else "over HTTP",
        )
        for row in found
    ]
    title = "What a picture costs over HTTP, by who spends it"
    figure, (axes,) = plots.panels(title, [plots.height(bars)], found)
    plots.bars(axes, bars, "share of the cores' time (median, quartiles)", wanted=1)
    return figure


def main() -> None:
    """Run, print the table, write the CSV and its plot."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.profile", description=__doc__)
    parser.add_argument("--models", type=Path, default=server.ROOT / "models")
    parser.add_argument("--model", default="efficientnet_lite0")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=2.0, help="of a slice")
    parser.add_argument("--output", type=Path, default=bench.RESULTS / "profile.csv")
    asked = parser.parse_args()
    if not Path("/proc/self/task").is_dir():
        raise SystemExit("only Linux tells how long a thread computed")
    found = measure(asked.models, asked.model, asked.connections, asked.rounds, asked.seconds)
    table = rows(found)
    print(bench.table(table))
    plots.write(asked.output, table, bench.machine("onnxruntime", "pillow", "bentoml"), draw)


if __name__ == "__main__":
    main()
