"""The benchmark of a GPU, in one run: `python -m loadtests.gpu`.

Prints a table and writes it to loadtests/results/gpu-<name>.csv: the network alone by batch size,
JPEG to top-5 over HTTP by number of workers, and torch.compile as the yardstick; fp32 and fp16,
CUDA and, where its libraries are, TensorRT. What there was no time or no means for is a row with
the reason. A row of `parity` has the largest difference of a probability from what the CPU computes
in fp32, over crops of photographs. Exits 3 where there is no GPU.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import date
from functools import lru_cache, partial
from importlib import metadata
from pathlib import Path
from time import perf_counter
from typing import Any

import onnxruntime
from rich.console import Console

from loadtests.gpu import device, http, networks
from loadtests.gpu.networks import WEIGHTS, Built, Precision
from loadtests.gpu.report import Figures, Row, table, write_csv
from loadtests.gpu.utilisation import Utilisation
from loadtests.harness import server
from service.config.cpus import available_cores
from service.config.settings import ProviderName
from service.engine.providers.available import missing

NO_GPU = 3
BATCHES = (1, 8, 32, 128)
WORKERS = (1, 4)
PARITY_CROPS = 64
CONNECTIONS = 64
RESULTS = Path(__file__).resolve().parents[1] / "results"
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16")


@dataclass(frozen=True)
class Run:
    """The settings of one run of the benchmark."""

    folder: Path
    seconds: float
    """Seconds of each measurement."""
    end: float
    """Time on `time.perf_counter` after which no measurement begins."""
    say: Callable[[str], None]


def main() -> int:
    """Measure, print and write. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.gpu", description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    parser.add_argument("--budget", type=float, default=540.0, help="seconds of the whole run")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the CSV")
    options = parser.parse_args()
    reason = missing("cuda")
    if reason:
        sys.stderr.write(f"no GPU to measure: execution provider cuda {reason}\n")
        return NO_GPU
    logging.basicConfig(level=logging.WARNING)
    console = Console() if sys.stdout.isatty() else Console(width=200)
    machine = describe()
    with tempfile.TemporaryDirectory() as folder:
        run = Run(Path(folder), options.seconds, perf_counter() + options.budget, console.print)
        rows: list[Row] = []
        for row in measure_all(run):
            rows.append(row)
            file = write_csv(rows, options.output, machine)  # what is measured is not lost
    table(rows, f"{machine['gpu']}, ONNX Runtime {machine['onnxruntime']}", console)
    console.print(f"written: {file}")
    return 0


def describe() -> dict[str, str]:
    """Return what the figures depend on, as columns of the CSV."""
    from service.engine.gpu import cuda

    gpu = cuda.gpu()
    packages = {distribution.metadata["Name"] for distribution in metadata.distributions()}
    return {
        "gpu": gpu.name,
        "compute_capability": ".".join(map(str, gpu.capability)),
        "cuda": str(getattr(onnxruntime, "cuda_version", "")),
        "tensorrt": gpu.tensorrt,
        "onnxruntime": onnxruntime.__version__,
        "torch": metadata.version("torch") if "torch" in packages else "",
        "cores": str(len(os.sched_getaffinity(0))),
        "date": date.today().isoformat(),
    }


def measure_all(run: Run) -> Iterator[Row]:
    """Yield every row, the important ones first: time may run out."""
    pairs = [(model, precision) for precision in PRECISIONS for model in WEIGHTS]
    build = lru_cache(partial(networks.build, folder=run.folder))  # when it is first needed
    gone = missing("tensorrt")
    for provider in ("cuda", "tensorrt"):
        for model, precision in pairs:
            device_row = Row("device", model, precision, provider)
            http_row = Row("http", model, precision, provider, connections=CONNECTIONS)
            if provider == "tensorrt" and gone:
                for blank in (device_row, http_row):
                    yield replace(blank, note=f"skipped: execution provider tensorrt {gone}")
                continue
            run.say(f"building {model} {precision}")
            network = build(model, precision)
            yield from on_device(run, device_row, network, provider)
            yield from over_http(run, http_row, network, provider)
        if provider == "cuda":
            for model in WEIGHTS:
                yield from with_torch(run, Row("torch", model, "fp16", "torch.compile"))


def on_device(run: Run, blank: Row, built: Built, provider: ProviderName) -> Iterator[Row]:
    """Measure the network alone: its difference from the proved one, and speed by batch size."""
    if built.file is None or built.exact is None or built.manifest is None:
        yield replace(blank, note=f"skipped: {built.reason}")
        return
    if perf_counter() > run.end:
        yield replace(blank, note="skipped: no time left")
        return
    try:
        session = device.open_session(
            built.file, built.manifest, provider, BATCHES, run.folder / "cache"
        )
    except Exception as error:  # noqa: BLE001 - a row of the table, not the end of the run
        yield replace(blank, note=f"failed: {error}")
        return
    crops = device.photograph_crops(built.manifest, PARITY_CROPS)
    difference = device.difference(session, built.exact, built.manifest, crops)
    yield replace(blank, what="parity", batch=len(crops), max_dp=difference)
    for batch in BATCHES:
        crops = device.crops_of(built.manifest.input, batch)
        yield measured(
            run,
            replace(blank, batch=batch),
            partial(device.measure, session.run, crops, run.seconds),
        )
    session.close()


def over_http(run: Run, blank: Row, built: Built, provider: ProviderName) -> Iterator[Row]:
    """Measure JPEG to top-5 over HTTP, by number of workers."""
    own = {built.model: {"precision": built.precision}}
    if built.file is None:
        yield replace(blank, note=f"skipped: {built.reason}")
        return
    for workers in WORKERS:
        row = replace(blank, workers=workers)
        settings = {
            "ZOO_MODELS": str(built.repository),
            "ZOO_DEFAULT_MODEL": built.model,
            "ZOO_PROVIDERS": "tensorrt,cuda,cpu" if provider == "tensorrt" else "cuda,cpu",
            "ZOO_PROVIDERS_STRICT": "true",
            "ZOO_CACHE": str(run.folder / "cache"),
            "ZOO_WORKERS": str(workers),
            "ZOO_MODEL_SETTINGS": json.dumps(own),
        }
        yield measured(run, row, partial(serve_and_load, run, settings, built.model))


def serve_and_load(run: Run, settings: dict[str, Any], model: str) -> Figures:
    """Start the service, load it, stop it; return the figures."""
    left = max(10.0, min(http.START_S, run.end - perf_counter()))
    with server.serving(start_s=left, **settings) as running:
        return http.load(
            running.port,
            http.picture(),
            model=model,
            connections=CONNECTIONS,
            seconds=run.seconds,
            processes=max(1, available_cores() // 4),
        )


def with_torch(run: Run, blank: Row) -> Iterator[Row]:
    """Measure what PyTorch itself reaches on this GPU, for comparison."""
    import torch

    if not torch.cuda.is_available():
        yield replace(blank, note="skipped: this PyTorch has no CUDA")
        return
    from export.zoo import registry

    size = registry.get(blank.model).input
    forward = device.yardstick(blank.model)
    for batch in BATCHES:
        crops = device.crops_of(size, batch)
        yield measured(
            run, replace(blank, batch=batch), partial(device.measure, forward, crops, run.seconds)
        )


def measured(run: Run, row: Row, measure: Callable[[], Figures]) -> Row:
    """Return the row with its figures, or with the reason why it has none."""
    if perf_counter() > run.end:
        return replace(row, note="skipped: no time left")
    run.say(" ".join(str(part) for part in (row.what, row.model, row.precision, row.provider)))
    try:
        with Utilisation() as busy:
            found = measure()
    except Exception as error:  # noqa: BLE001 - a row of the table, not the end of the run
        return replace(row, note=f"failed: {next(iter(str(error).splitlines()), repr(error))}")
    return replace(
        row,
        rate=found.rate,
        p50_ms=found.p50_ms,
        p99_ms=found.p99_ms,
        failures=found.failures,
        gpu_percent=busy.percent,
    )


if __name__ == "__main__":
    sys.exit(main())
