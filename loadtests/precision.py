"""What int8 costs and gains: agreement and speed by the number of layers left in floats.

    python -m loadtests.precision [NETWORK…] [--models FOLDER] [--crops 1000]

Both graphs run one crop at a time on one thread, in alternating slices of one run; the speed is the
median of the paired ratios, with their quartiles. Writes precision.csv and precision.png into
loadtests/results/, a file per network.
"""

from __future__ import annotations

import argparse
import csv
import platform
import statistics
import sys
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import onnx
import onnxruntime

from export import built
from export.precision import add, agreement, calibrate, crops, int8

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Row:
    """One graph against single precision."""

    network: str
    weights: str
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
    onnxruntime: str
    machine: str


def curve(name: str, models: Path, count: int) -> list[Row]:
    """A row per number of layers in floats."""
    manifest = built.read_manifest(models, name, None)
    path = models / name / manifest.version / manifest.file("model", "fp32").path
    model = onnx.load(path)
    pictures = crops.sources(add.labels_of(manifest))
    given = crops.draw(pictures.calibration, manifest.input, int8.CALIBRATION_CROPS, seed=1)
    quantised = int8.quantise(model, given, report=_note)
    varied, hard = (
        crops.draw(pictures.measure, manifest.input, count, seed=3, hard=hard)
        for hard in (False, True)
    )
    single = calibrate.session(str(path))
    alone = calibrate.session(str(path), threads=1)
    expected, expected_hard = (agreement.logits(single, some) for some in (varied, hard))
    rows = []
    for number in quantised.steps():
        graph = quantised.model(number).SerializeToString()
        session = calibrate.session(graph)
        found = agreement.compare(expected, agreement.logits(session, varied))
        harder = agreement.compare(expected_hard, agreement.logits(session, hard))
        ratios = agreement.ratios(alone, calibrate.session(graph, threads=1), varied[:1])
        lower, middle, upper = statistics.quantiles(ratios, n=4)
        rows.append(
            Row(
                network=name,
                weights=manifest.weights.source,
                float_layers=number,
                crops=found.crops,
                agreement=found.top1,
                confident_crops=found.confident_crops,
                confident_agreement=found.confident,
                hard_agreement=harder.top1,
                signal_to_noise_db=round(found.noise_db, 2),
                speedup=round(middle, 3),
                speedup_lower_quartile=round(lower, 3),
                speedup_upper_quartile=round(upper, 3),
                onnxruntime=onnxruntime.__version__,
                machine=_machine(),
            )
        )
        _print(rows[-1])
    return rows


def _note(step: str) -> None:
    print(step, file=sys.stderr, flush=True)


def _print(row: Row) -> None:
    print(
        f"{row.network} ({row.weights}): {row.float_layers:3} layers in floats, "
        f"agreement {row.agreement:.2%} ({row.confident_agreement:.2%} of "
        f"{row.confident_crops} confident, {row.hard_agreement:.2%} hard), "
        f"{row.signal_to_noise_db:.1f} dB, {row.speedup:.2f} times as fast "
        f"({row.speedup_lower_quartile:.2f}–{row.speedup_upper_quartile:.2f})",
        flush=True,
    )


def _machine() -> str:
    """The processor, as Linux names it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    flags = next((line for line in lines if line.startswith("flags")), "")
    name = next((line.partition(":")[2].strip() for line in lines if "model name" in line), "")
    return f"{name}{', VNNI' if 'avx512_vnni' in flags or 'avx_vnni' in flags else ''}"


def write(rows: list[Row], folder: Path) -> Path:
    """Write the rows of one network as CSV, and the curve as a picture beside it."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"precision_{rows[0].network}.csv"
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, [field.name for field in fields(Row)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)
    figure, axes = pyplot.subplots(figsize=(6, 4), layout="constrained")
    axes.plot([r.speedup for r in rows], [100 * r.agreement for r in rows], "o-", label="varied")
    axes.plot(
        [r.speedup for r in rows], [100 * r.hard_agreement for r in rows], "s--", label="hard"
    )
    for row in rows:
        axes.annotate(str(row.float_layers), (row.speedup, 100 * row.agreement))
    axes.set(xlabel="times as fast as fp32", ylabel="same first class, %")
    axes.set_title(f"{rows[0].network} in int8, by layers left in floats")
    axes.legend()
    figure.savefig(file.with_suffix(".png"), dpi=100)
    pyplot.close(figure)
    return file


def main() -> None:
    """Measure the networks that are named, which must be built."""
    parser = argparse.ArgumentParser(description="Agreement and speed of int8.")
    parser.add_argument("networks", nargs="*", default=["efficientnet_lite0"])
    parser.add_argument("--models", type=Path, default=Path("models"))
    parser.add_argument("--crops", type=int, default=add.CROPS)
    parser.add_argument("--output", type=Path, default=RESULTS)
    given = parser.parse_args()
    for name in given.networks:
        print(write(curve(name, given.models, given.crops), given.output))


if __name__ == "__main__":
    main()
