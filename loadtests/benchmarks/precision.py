"""Measure agreement and speed of int8 and bf16 by the number of layers left in floats.

    python -m loadtests.benchmarks.precision [NETWORK…] [--precisions int8 bf16]
        [--providers cpu openvino] [--models FOLDER] [--crops 1000] [--points 9]

A network is calibrated and rounded once per precision; then as many graphs are measured as there
are points, from none to all layers left in single precision (of int8 the most sensitive ones, of
bf16 the first ones), by each of the providers that takes the precision: bf16 by openvino alone.
What they are compared with is single precision by the provider cpu. Both graphs of a ratio run one
crop at a time on one thread, in alternating slices of one run, by the time of that thread; the
speed is the median of the paired ratios, with their quartiles. All cores compute the agreement.
Writes precision_NETWORK.csv and its plot into loadtests/results/.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from time import perf_counter, thread_time
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import onnx

from export.errors import ExportError
from export.precision import add, agreement, bf16, calibrate, crops, int8
from export.precision.choose import TARGET, Mixture
from export.versions import built
from loadtests.harness import bench, plots
from service.config.cpus import available_cores
from service.engine.providers.available import missing
from service.engine.session_factory import openvino_session

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Precision = Literal["int8", "bf16"]
Provider = Literal["cpu", "openvino"]

POINTS = 9
_ROUNDS, _SLICE_S = 15, 0.1
_CHUNK = 8
"""How many crops one run of the agreement takes."""


@dataclass(frozen=True)
class Row:
    """How one graph compares with single precision."""

    network: str
    weights: str
    precision: str
    provider: str
    float_layers: int
    crops: int
    agreement: float
    confident_crops: int
    confident_agreement: float
    hard_agreement: float
    signal_to_noise_db: float
    speedup: float
    speedup_lower_quartile: float
    speedup_upper_quartile: float


def curve(
    name: str, precision: Precision, providers: Sequence[Provider], args: argparse.Namespace
) -> list[Row]:
    """Return a row for each number of layers in floats and provider."""
    models, count = args.models, args.crops
    manifest = built.read_manifest(models, name, None)
    path = models / name / manifest.version / manifest.file("model", "fp32").path
    pictures = crops.sources(add.labels_of(manifest))
    calibration = crops.draw(pictures.calibration, manifest.input, int8.CALIBRATION_CROPS, seed=1)
    convert = bf16.convert if precision == "bf16" else int8.quantise
    mixture: Mixture = convert(onnx.load(path), calibration, report=_Steps())
    varied, hard = (
        crops.draw(pictures.measure, manifest.input, count, seed=3, hard=hard)
        for hard in (False, True)
    )
    single = calibrate.session(str(path), threads=1)
    print(f"single precision of {2 * count} crops", flush=True)
    expected, expected_hard = (logits(single, some) for some in (varied, hard))
    rows = []
    numbers = spread_over(len(mixture.ranking), args.points)
    points = [(number, provider) for number in numbers for provider in providers]
    for point, (number, provider) in enumerate(points, start=1):
        begun = perf_counter()
        graph = mixture.model(number).SerializeToString()
        session, alone = _sessions(graph, provider)
        found = agreement.compare(expected, logits(session, varied))
        harder = agreement.compare(expected_hard, logits(session, hard))
        speed = speedup(single, alone, varied[:1])
        rows.append(
            Row(
                network=name,
                weights=manifest.weights.source,
                precision=precision,
                provider=provider,
                float_layers=number,
                crops=found.crops,
                agreement=found.top1,
                confident_crops=found.confident_crops,
                confident_agreement=found.confident,
                hard_agreement=harder.top1,
                signal_to_noise_db=found.noise_db,
                speedup=speed.median,
                speedup_lower_quartile=speed.low,
                speedup_upper_quartile=speed.high,
            )
        )
        print(f"point {point} of {len(points)}, {perf_counter() - begun:.0f} s: ", end="")
        _print(rows[-1])
    return rows


def _sessions(graph: bytes, provider: Provider) -> tuple[calibrate.Session, calibrate.Session]:
    """Open a session for the agreement on all cores, and one to be timed in its caller's thread.

    A session of ``cpu`` is both; OpenVINO has a stream for each run at once, and where it has one,
    it computes in the caller's thread.
    """
    if provider == "openvino":
        return openvino_session(graph, available_cores()), openvino_session(graph)
    session = calibrate.session(graph, threads=1)
    return session, session


def spread_over(most: int, points: int) -> list[int]:
    """Return about ``points`` whole numbers from 0 to ``most``, both included, evenly spread."""
    return sorted({round(number) for number in np.linspace(0, most, max(2, points))})


def logits(session: calibrate.Session, pixels: crops.Crops) -> agreement.Array:
    """Return logits float32 [N, classes] of crops uint8 [N, H, W, C], by a caller per core.

    ``session`` has one thread, so that none of them waits for another.
    """
    parts = [pixels[start : start + _CHUNK] for start in range(0, len(pixels), _CHUNK)]
    with ThreadPoolExecutor(available_cores()) as pool:
        return np.concatenate(list(pool.map(partial(agreement.logits, session), parts)))


def speedup(
    single: calibrate.Session, reduced: calibrate.Session, crop: crops.Crops
) -> bench.Spread:
    """Return how many times as fast ``reduced`` is; both sessions have one thread."""
    contenders = {
        name: partial(session.run, None, {"pixels": crop})
        for name, session in {"fp32": single, "less": reduced}.items()
    }
    times = bench.alternate(contenders, _ROUNDS, _SLICE_S, thread_time)
    return bench.paired_ratio(times, "fp32", "less")


class _Steps:
    """Prints what is done; of what is done layer by layer, the first line."""

    def __init__(self) -> None:
        self._kind = ""

    def __call__(self, step: str) -> None:
        kind = step.partition(" layer ")[0]
        if kind != self._kind:
            print(step, flush=True)
        self._kind = kind


def _print(row: Row) -> None:
    print(
        f"{row.network} ({row.weights}) in {row.precision} by {row.provider}: "
        f"{row.float_layers:3} layers in floats, "
        f"agreement {row.agreement:.2%} ({row.confident_agreement:.2%} of "
        f"{row.confident_crops} confident, {row.hard_agreement:.2%} hard), "
        f"{row.signal_to_noise_db:.1f} dB, {row.speedup:.2f} times as fast "
        f"({row.speedup_lower_quartile:.2f}–{row.speedup_upper_quartile:.2f})",
        flush=True,
    )


def _instructions(*names: str) -> str:
    """Return which of these instructions the processor has, as Linux says."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return "unknown"
    return "yes" if any(name in text for name in names) else "no"


def draw(rows: plots.Rows) -> Figure:
    """Draw agreement and speed against the number of layers in floats."""
    agreements = {
        "varied crops": "agreement",
        "confident ones of them": "confident_agreement",
        "hard crops": "hard_agreement",
    }
    parts: dict[str, list[Mapping[str, str]]] = {}
    for row in rows:
        parts.setdefault(f"{row['precision']} by {row['provider']}", []).append(row)
    figure, (left, right) = plots.panels(
        f"{rows[0]['network']} in {', '.join(parts)}, {rows[0]['crops']} crops",
        [4.4, 4.4],
        rows,
        beside=True,
    )
    if len(parts) > 1:  # three lines each would hide one another
        agreements = {"": "agreement"}
    series = {
        f"{part} {name}".strip() if len(parts) > 1 else name: _points(
            own, (column, column, column), times=100
        )
        for part, own in parts.items()
        for name, column in agreements.items()
    }
    layers = "layers left in floats"
    plots.lines(left, series, layers, "same first class as fp32, %", target=100 * TARGET)
    quartiles = ("speedup", "speedup_lower_quartile", "speedup_upper_quartile")
    speeds = {part: _points(own, quartiles) for part, own in parts.items()}
    plots.lines(right, speeds, layers, "times as fast as fp32 by cpu, one thread", target=1)
    for axes in (left, right):
        axes.set_xticks(sorted({int(row["float_layers"]) for row in rows}))
    return figure


def _points(rows: plots.Rows, columns: tuple[str, str, str], times: float = 1) -> list[plots.Point]:
    return [
        plots.Point(float(row["float_layers"]), plots.spread_of(row, *columns, times=times))
        for row in rows
    ]


def _lacking(precisions: Sequence[Precision], providers: Sequence[Provider]) -> str | None:
    """Say what this machine lacks to measure these, in one line; None where it has all."""
    if "bf16" in precisions:
        try:
            bf16.demand()
        except ExportError as error:
            return str(error)
    if "openvino" in providers and (why := missing("openvino")):
        return f"the provider openvino {why}"
    return None


def main() -> None:
    """Measure the networks that are named, which must be built."""
    parser = argparse.ArgumentParser(description="Agreement and speed of less precision.")
    parser.add_argument("networks", nargs="*", default=["efficientnet_lite0"])
    parser.add_argument("--models", type=Path, default=Path("models"))
    parser.add_argument("--precisions", nargs="+", choices=get_args(Precision), default=["int8"])
    parser.add_argument("--providers", nargs="+", choices=get_args(Provider), default=["cpu"])
    parser.add_argument("--crops", type=int, default=add.CROPS)
    parser.add_argument(
        "--points", type=int, default=POINTS, help="of the curve, both ends included"
    )
    parser.add_argument("--output", type=Path, default=bench.RESULTS)
    args = parser.parse_args()
    takes: dict[Precision, list[Provider]] = {
        precision: [p for p in args.providers if precision == "int8" or p == "openvino"]
        for precision in args.precisions
    }
    if not all(takes.values()):
        parser.error("bf16 is computed by openvino alone: --providers openvino")
    if why := _lacking(args.precisions, args.providers):
        sys.exit(why)
    about = bench.machine("onnxruntime", "onnxruntime-ep-openvino")
    about |= {"vnni": _instructions("avx512_vnni", "avx_vnni")}
    about |= {"bf16": _instructions("avx512_bf16", "amx_bf16")}
    for name in args.networks:
        rows = [
            asdict(row)
            for precision, providers in takes.items()
            for row in curve(name, precision, providers, args)
        ]
        print(bench.table(rows))
        file = args.output / f"precision_{name}.csv"
        plots.write(file, rows, about, draw)
        print(file)


if __name__ == "__main__":
    main()
