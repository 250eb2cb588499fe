"""Compare the service with other servers: ``python -m loadtests.peers``.

Every peer serves the same ONNX file with as many threads or processes as there are cores, set up as
its documentation advises (docs/peers.md), in a virtual environment that is made for it. Contenders
take turns in slices of some seconds; each round gives one ratio.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from loadtests.harness import bench, plots, server
from loadtests.harness.photographs import usual_pictures
from loadtests.peers import environments
from loadtests.peers.catalogue import PEERS, PIPELINE
from loadtests.peers.contenders import (
    MEASURED_WITH,
    OURS,
    OURS_EXACT,
    Contender,
    install,
    ours,
)
from loadtests.peers.measure import Tried, alone, alternate, disagreements, rows
from service.config.cpus import available_cores
from service.engine.providers.available import missing
from service.engine.providers.openvino import no_bf16
from service.manifest import Manifest, Precision
from service.repository.versions_on_disk import find, read

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LEFT_OUT = 1
_PRECISIONS = [name for name in get_args(Precision) if name != "bf16"]
"""Precisions that ONNX Runtime's own provider computes, which the peers use."""
PROVIDERS = {"int8": "cpu", "bf16": "openvino,cpu"}
"""By precision of a third contender of ours, the providers that compute it fastest."""


def main() -> int:
    """Install, check, measure, print, write. Returns the exit status."""
    args = _arguments()
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # stops the servers
    model = model_file(args.models, args.model, args.precision)
    pictures = usual_pictures()
    contenders, reasons = _contenders(args, model, pictures)
    contenders, tried, more = _check(contenders, args.connections, args.seconds)
    reasons |= more
    for name, reason in reasons.items():
        print(f"left out: {name}: {reason}", file=sys.stderr, flush=True)
    found = alternate(contenders, args.connections, args.rounds, args.seconds)
    table = [{"precision": args.precision, **row} for row in rows(contenders, found, tried)]
    print(bench.table(table))
    plots.write(args.output, table, bench.machine(), draw)
    return LEFT_OUT if reasons and args.strict else 0


def draw(found: plots.Rows) -> Figure:
    """Draw how many times as fast as each peer the service is, by its settings."""
    others = [row for row in found if row["contender"] not in OURS.values()]
    sized = [
        plots.Bar(
            f"{mode} over {row['contender']} ({float(row['pictures_per_s']):.0f}/s)",
            plots.spread_of(row, f"{mode}_over_it", f"{mode}_q1", f"{mode}_q3"),
            f"ours, {mode}",
        )
        for row in others
        for mode in OURS
        if row.get(f"{mode}_over_it")
    ]
    title = "Pictures per second of the service over those of its peers"
    figure, (axes,) = plots.panels(title, [plots.height(sized)], found)
    plots.bars(axes, sized, "times as fast (median of paired ratios, quartiles)", target=1)
    return figure


def model_file(models: Path, name: str, precision: Precision) -> Path:
    """Return the ONNX file of a network's newest version. Raises SystemExit without one."""
    found = [version for version in find(models) if version.name == name]
    manifest = read(found[-1]) if found else None
    if not isinstance(manifest, Manifest):
        raise SystemExit(f"{models} has no network {name}")
    try:
        return found[-1].path / manifest.file("model", precision).path
    except KeyError as error:
        raise SystemExit(str(error.args[0])) from None


def _contenders(
    args: argparse.Namespace, model: Path, pictures: Sequence[bytes]
) -> tuple[list[Contender], dict[str, str]]:
    """Return the contenders that could be installed, and why others could not."""
    settings = {
        "zoo_models": args.models.resolve(),
        "zoo_default_model": args.model,
        "zoo_precision": args.precision,
        "zoo_threads": args.threads or 0,
    }
    about = bench.machine("bentoml", *MEASURED_WITH)
    versions = {"server": f"bentoml {about['bentoml']}"}
    versions |= {name: about[name] for name in MEASURED_WITH}
    contenders = [
        ours(settings, "exact", pictures, versions),
        ours(settings, "fast", pictures, versions),
    ]
    if args.best:
        best = {"zoo_precision": args.best, "zoo_providers": PROVIDERS[args.best]}
        contenders.append(ours(settings | best, "best", pictures, versions))
    reasons = {}
    threads = args.threads or available_cores()
    for name in args.peers:
        print(f"installing {name}", flush=True)
        folder = args.environments / name
        try:
            contenders.append(install(PEERS[name], folder, model, threads, pictures, PIPELINE))
        except environments.EnvironmentFailed as error:
            reasons[name] = f"it could not be installed: {error}"
    return contenders, reasons


def _check(
    contenders: Sequence[Contender], connections: int, seconds: float
) -> tuple[list[Contender], dict[str, Tried], dict[str, str]]:
    """Return the contenders that answer as the service does, their answers, and why others fail."""
    tried: dict[str, Tried] = {}
    reasons = {}
    for contender in contenders:
        print(f"trying {contender.name}", flush=True)
        try:
            tried[contender.name] = alone(contender, connections, seconds)
        except (server.ServerFailed, RuntimeError, OSError, TimeoutError) as error:
            if contender.name in OURS.values():
                raise
            reasons[contender.name] = f"{error}"
    first = {name: each.first for name, each in tried.items()}
    for name, pictures in disagreements(first, OURS_EXACT).items():
        if pictures and name in OURS.values():
            print(f"{name}: another first class of {len(pictures)} of {len(first[name])} pictures")
        elif pictures:
            reasons[name] = f"another first class of pictures {pictures}"
    return [each for each in contenders if each.name not in reasons], tried, reasons


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m loadtests.peers", description=__doc__)
    parser.add_argument("--models", type=Path, default=server.ROOT / "models")
    parser.add_argument("--model", default="efficientnet_lite0")
    parser.add_argument("--precision", choices=_PRECISIONS, default="fp32")
    parser.add_argument(
        "--best", choices=PROVIDERS, help="the service once more, fast, in this precision"
    )
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=list(PEERS), metavar="NAME")
    parser.add_argument("--environments", type=Path, default=environments.FOLDER)
    parser.add_argument("--threads", type=int, help="default: each its own")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=2.0, help="of a slice")
    parser.add_argument("--output", type=Path, default=bench.RESULTS / "peers.csv")
    parser.add_argument(
        "--strict", action="store_true", help=f"exit with {LEFT_OUT} when a peer is left out"
    )
    args = parser.parse_args()
    if args.best == "bf16" and (why := missing("openvino") or no_bf16()):
        sys.exit(f"--best bf16 needs openvino and a CPU with bf16: {why}")
    return args


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
