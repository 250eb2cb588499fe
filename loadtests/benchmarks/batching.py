"""Measure the cost of a crop by the size of the batch it comes in.

    python -m loadtests.benchmarks.batching

The network alone, by the service's own session: what a batcher runs, without a queue. One caller
thread says what a batch costs (on a CPU by the time of that thread, so that what others do is left
out), as many as cores at once say what the machine gets done. All sizes take turns in slices of one
run; reported is the median of the paired ratios to a batch of one. Beside them is the size that the
service learnt when it loaded the network in this run.
"""

from __future__ import annotations

import argparse
import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from time import perf_counter, thread_time
from typing import TYPE_CHECKING, get_args

import numpy as np
from pydantic import ValidationError

from loadtests.harness import bench, inprocess, plots, server
from service.config.cpus import available_cores
from service.config.settings import GPU
from service.engine.model import GPU_BATCH, Model
from service.imaging.crops import Crops
from service.manifest import Precision, RefusedModelError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DEFAULT = ("efficientnet_lite0", "lenet5")
SIZES = (1, 2, 4, 8, 16, 32)

Row = dict[str, object]


def seconds_per_crop(
    run: Callable[[Crops], object],
    crops: Crops,
    threads: int,
    slice_s: float,
    clock: Callable[[], float] = perf_counter,
) -> float:
    """Run one batch in ``threads`` threads at once for ``slice_s``; return seconds per crop.

    Each thread is timed by itself: none waits for another's last batch.
    """
    start = threading.Barrier(threads)

    def loop() -> float:
        start.wait()
        return bench.seconds_per_call(partial(run, crops), slice_s, clock)

    with ThreadPoolExecutor(threads) as pool:
        running = [pool.submit(loop) for _ in range(threads)]
        return 1 / sum(len(crops) / future.result() for future in running)


def load(
    models: Path, name: str, providers: str, sizes: Sequence[int], precision: str = "auto"
) -> Model:
    """Load the model as the service does, able to take batches of ``sizes`` crops."""
    chosen = {"providers": providers, "precision": precision}
    model = inprocess.load(models, name, **chosen)
    if model.providers[0] in GPU and max(sizes) > GPU_BATCH:  # a GPU's buffers have a size
        close(model)
        model = inprocess.load(models, name, max_batch=max(sizes), **chosen)
    return model


def close(model: Model) -> None:
    """End the model's threads and release its memory."""
    asyncio.run(model.close())
    model.release()


def measure(
    model: Model, sizes: Sequence[int], threads: Sequence[int], rounds: int, slice_s: float
) -> list[Row]:
    """Return a row for each number of threads and batch size."""
    size = model.manifest.input
    shape = (max(sizes), size.height, size.width, size.channels)
    crops = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    run = partial(model.run, "model")
    contenders = {}
    for count in threads:
        # a caller alone computes all by itself on a CPU: what others do there is left out
        clock = thread_time if count == 1 and model.providers[0] == "cpu" else perf_counter
        for batch in sizes:
            contenders[f"{count} {batch}"] = partial(
                seconds_per_crop, run, crops[:batch], count, slice_s, clock
            )
    for batch in sizes:
        run(crops[:batch])  # warm
    times = bench.take_turns(contenders, rounds)
    rows: list[Row] = []
    for count in threads:
        for batch in sizes:
            seconds = bench.spread(times[f"{count} {batch}"]).median
            ratio = bench.paired_ratio(times, f"{count} {batch}", f"{count} {sizes[0]}")
            rows.append(
                {
                    "model": model.name,
                    "provider": model.providers[0],
                    "precision": model.precision,
                    "threads": count,
                    "batch": batch,
                    "ms_per_crop": 1e3 * seconds,
                    "crops_per_s": 1 / seconds,
                    "ratio": ratio.median,
                    "ratio_low": ratio.low,
                    "ratio_high": ratio.high,
                    "learnt": model.max_batch,
                    "rounds": rounds,
                }
            )
    return rows


def draw(rows: plots.Rows) -> Figure:
    """Draw a panel per model, a line per number of threads, and the size that was learnt."""
    names = list(dict.fromkeys(row["model"] for row in rows))
    figure, panels = plots.panels(
        "What a crop costs in a batch",
        [4.4] * len(names),
        rows,
        beside=True,
    )
    for axes, name in zip(panels, names, strict=True):
        own = [row for row in rows if row["model"] == name]
        series: dict[str, list[plots.Point]] = {}
        for row in own:
            alone = row["threads"] == "1"
            label = "1 thread" if alone else f"{row['threads']} threads at once"
            spread = plots.spread_of(row, "ratio", "ratio_low", "ratio_high")
            series.setdefault(label, []).append(plots.Point(float(row["batch"]), spread))
        learnt = own[0]["learnt"]
        axes.axvline(float(learnt), color="gray", linestyle=":", label=f"learnt: {learnt}")
        plots.lines(
            axes, series, "crops in a batch", "time per crop ÷ that of a batch of one", target=1
        )
        axes.set_xscale("log", base=2)
        places = sorted({point.x for points in series.values() for point in points})
        axes.set_xticks(places, [f"{place:g}" for place in places])
        axes.set_title(f"{name}, {own[0]['provider']}, {own[0]['precision']}", fontsize=9)
    return figure


def main() -> None:
    """Measure, print the table, write the CSV and its plot."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.benchmarks.batching", description=__doc__
    )
    parser.add_argument("networks", nargs="*", default=DEFAULT, help="default: the embedded ones")
    parser.add_argument("--models", type=Path, default=server.ROOT / "models", metavar="FOLDER")
    parser.add_argument("--providers", default="auto", help="a value of ZOO_PROVIDERS")
    parser.add_argument("--precision", default="auto", choices=["auto", *get_args(Precision)])
    parser.add_argument(
        "--sizes", type=_size, nargs="+", default=SIZES, help="crops; 1 is always one"
    )
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--slice", type=float, default=0.3, help="seconds per slice")
    parser.add_argument("--output", type=Path, default=bench.RESULTS / "batching.csv")
    args = parser.parse_args()
    sizes = sorted({1, *args.sizes})
    threads = sorted({1, available_cores()})
    rows: list[Row] = []
    for name in args.networks:
        try:
            model = load(args.models, name, args.providers, sizes, args.precision)
        except ValidationError as invalid:
            parser.error(f"--providers {args.providers}: {invalid.errors()[0]['msg']}")
        except (LookupError, OSError, RefusedModelError) as error:
            parser.error(str(error))
        costs = ", ".join(f"{size}: {1e3 * s:.3g}" for size, s in model.batch_costs.items())
        print(
            f"{name} on {model.providers[0]}: the service learns batches of {model.max_batch} "
            f"from ms per crop by size {costs}",
            flush=True,
        )
        found = measure(model, sizes, threads, args.rounds, args.slice)
        print(bench.table(found), flush=True)
        rows += found
        close(model)
    plots.write(args.output, rows, bench.machine("onnxruntime", "numpy"), draw)
    print(f"written: {args.output} and its plot")


def _size(text: str) -> int:
    size = int(text)
    if size < 1:
        raise argparse.ArgumentTypeError(f"{size} is no size of a batch")
    return size


if __name__ == "__main__":
    main()
