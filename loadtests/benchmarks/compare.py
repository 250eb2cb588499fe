"""Compare two checkouts of this project: ``python -m loadtests.benchmarks.compare A B``.

Each has a server of its own with the same models, pictures and settings. Both stay alive, and the
one whose turn it is not is suspended. A round loads them in the order A B B A, so that a machine
whose speed drifts steadily slows both alike. Rate, p50 and p99 of B in a round are divided by those
of A; the median of these ratios is printed with its quartiles and a bootstrap interval (Efron and
Tibshirani 1993, chapter 13). What differs is in code alone, so both run in this environment.

The same checkout twice shows how much the machine itself makes of nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from loadtests.benchmarks.limit import http
from loadtests.clients import client, grpc_client
from loadtests.harness import bench, server
from loadtests.harness.photographs import jpeg, photographs

ORDER = "ABBA"
SETTLE_S = 0.3
"""Seconds of load that are not counted after a server was suspended."""
SIZE = (500, 375)
"""(width, height) in pixels that ImageNet's pictures usually have."""

Figures = dict[str, float]
Slice = Callable[[server.Running, float], client.Load]
"""Loads a server for so many seconds."""


def pictures(size: tuple[int, int]) -> list[bytes]:
    """Return the photographs as JPEGs of ``size`` (width, height)."""
    return [jpeg(picture.resize(size)) for picture in photographs().values()]


def slices(encoded: Sequence[bytes], connections: int) -> dict[str, Slice]:
    """Return by transport how a server is loaded.

    ``connections`` is how many there are over HTTP, or calls at a time on one over gRPC.
    """
    raw = [client.raw(picture) for picture in encoded]
    messages = [grpc_client.message(picture) for picture in encoded]
    return {
        "http": lambda it, s: client.run(http(it.port, connections, raw, s)),
        "grpc": lambda it, s: client.run(grpc_client.calls(it.grpc_port, connections, messages, s)),
    }


def figures(loads: Sequence[client.Load]) -> Figures:
    """Return answers per second, and p50 and p99 in milliseconds, of several slices together.

    Raises RuntimeError where any answer is an error, or there is none.
    """
    statuses = sum((load.statuses for load in loads), start=type(loads[0].statuses)())
    if set(statuses) != {200}:
        raise RuntimeError(f"there were answers other than 200: {dict(statuses)}")
    p50, p99 = np.percentile([each for load in loads for each in load.latencies_s], [50, 99])
    seconds = sum(load.seconds for load in loads)
    return {"rate": statuses[200] / seconds, "p50_ms": 1e3 * p50, "p99_ms": 1e3 * p99}


def take_round(load: Callable[[str], client.Load]) -> dict[str, Figures]:
    """Load A and B in the turns of `ORDER`; return the figures of each."""
    found: dict[str, list[client.Load]] = {"A": [], "B": []}
    for name in ORDER:
        found[name].append(load(name))
    return {name: figures(loads) for name, loads in found.items()}


def rows(
    transport: str, rounds: Sequence[Mapping[str, Figures]], about: Mapping[str, object]
) -> list[dict[str, object]]:
    """Return a row per figure: medians of A and B, and the ratio B/A of the same round."""
    table = []
    for name in rounds[0]["A"]:
        a, b = ([each[side][name] for each in rounds] for side in "AB")
        ratios = [mine / theirs for mine, theirs in zip(b, a, strict=True)]
        ratio, (low, high) = bench.spread(ratios), bench.interval(ratios)
        table.append(
            {
                "transport": transport,
                "figure": name,
                "A": bench.spread(a).median,
                "B": bench.spread(b).median,
                "B/A": ratio.median,
                "q1": ratio.low,
                "q3": ratio.high,
                "low_95": low,
                "high_95": high,
                "rounds": len(rounds),
                **about,
            }
        )
    return table


def measure(
    checkouts: Mapping[str, Path],
    by_transport: Mapping[str, Slice],
    rounds: int,
    seconds: float,
    **settings: Any,
) -> dict[str, list[dict[str, Figures]]]:
    """Serve ``checkouts`` A and B, and return their rounds by transport.

    Raises server.ServerFailed where one does not start, RuntimeError for a wrong answer.
    """
    with contextlib.ExitStack() as stack:
        running: dict[str, server.Running] = {}
        for name, checkout in checkouts.items():
            started = stack.enter_context(server.serving(cwd=checkout, **settings))
            running[name] = started
            for load in by_transport.values():
                load(started, SETTLE_S)
            server.suspend(started.process.pid)

        def turn(load: Slice, name: str) -> client.Load:
            pid = running[name].process.pid
            server.resume(pid)
            try:
                load(running[name], SETTLE_S)
                return load(running[name], seconds)
            finally:
                server.suspend(pid)

        found: dict[str, list[dict[str, Figures]]] = {each: [] for each in by_transport}
        for number in range(rounds):
            for transport, load in by_transport.items():
                found[transport].append(take_round(lambda name, load=load: turn(load, name)))  # type: ignore[misc]
            print(f"round {number + 1} of {rounds}", flush=True)
    return found


def state_of(checkout: Path) -> str:
    """Return its commit, with ``-dirty`` where files differ from it or git does not know them.

    Files that git ignores do not count. Raises LookupError where Python, started in ``checkout``,
    imports the service of another place: what counts is what is imported there.
    """
    imported = _output([sys.executable, "-c", "import service; print(service.__file__)"], checkout)
    if Path(imported).parent != checkout / "service":
        raise LookupError(f"{checkout} is no checkout of this project")
    commit = _output(["git", "rev-parse", "--short", "--verify", "HEAD"], checkout)
    changes = ["git", "status", "--porcelain", "--untracked-files=normal"]
    dirty = "-dirty" if commit and _output(changes, checkout) else ""
    return commit + dirty or "no commit"


def _output(command: list[str], folder: Path) -> str:
    """What a command prints to its standard output in a folder, stripped; empty where it fails."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)  # noqa: S603
    return done.stdout.strip()


def main() -> int:
    """Compare, print the table, write a CSV where one is asked for."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.benchmarks.compare", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("a", type=Path, help="a checkout: what there was")
    parser.add_argument("b", type=Path, help="another: what there is now")
    parser.add_argument("--rounds", type=int, default=30, help="of four slices: A B B A")
    parser.add_argument("--seconds", type=float, default=1.5, help="of a slice")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--transports", nargs="+", choices=("http", "grpc"), default=None)
    parser.add_argument("--preprocessing", choices=("exact", "fast"), default="exact")
    parser.add_argument("--size", type=int, nargs=2, default=SIZE, metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--model", default="efficientnet_lite0", help="of models/ here")
    parser.add_argument("--output", type=Path, help="a CSV")
    args = parser.parse_args()
    checkouts = {"A": args.a.resolve(), "B": args.b.resolve()}
    try:
        commits = {name: state_of(checkout) for name, checkout in checkouts.items()}
    except (LookupError, OSError) as error:
        parser.error(str(error))
    for name, checkout in checkouts.items():
        print(f"{name}: {checkout} at {commits[name]}")
    ways = slices(pictures(tuple(args.size)), args.connections)
    found = measure(
        checkouts,
        {each: ways[each] for each in args.transports or ways},
        args.rounds,
        args.seconds,
        zoo_models=server.ROOT / "models",
        zoo_default_model=args.model,
        zoo_preprocessing=args.preprocessing,
    )
    about = {
        "preprocessing": args.preprocessing,
        "size": "x".join(map(str, args.size)),
        "connections": args.connections,
        "seconds": args.seconds,
    }
    table = [row for transport, each in found.items() for row in rows(transport, each, about)]
    print(bench.table([{k: v for k, v in row.items() if k not in about} for row in table]))
    if args.output is not None:
        machine = bench.machine("onnxruntime", "pillow", "bentoml")
        named = {"commit_a": commits["A"], "commit_b": commits["B"]}
        bench.write_csv(args.output, table, named | machine)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
