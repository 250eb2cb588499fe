"""Write the rows of the benchmark, measured or skipped with a reason, as table and CSV."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Figures:
    """The figures of one measurement."""

    rate: float
    """Crops, or pictures over HTTP, per second."""
    p50_ms: float
    """Median milliseconds of one batch on the device, or of one request."""
    p99_ms: float
    failures: int = 0


@dataclass(frozen=True)
class Row:
    """One line of the benchmark. ``note`` says why a line has no figures."""

    what: str
    """parity, device, http, or torch: torch.compile, the yardstick."""
    model: str
    precision: str
    provider: str
    batch: int | None = None
    workers: int | None = None
    connections: int | None = None
    rate: float | None = None
    p50_ms: float | None = None
    p99_ms: float | None = None
    failures: int | None = None
    gpu_percent: float | None = None
    """Mean share of time in which the GPU computed something, as its driver says."""
    max_dp: float | None = None
    """Largest difference of a probability from the proved fp32 network on the CPU."""
    note: str = ""


def figures(latencies_s: Sequence[float], items: int, elapsed_s: float, failures: int) -> Figures:
    """Return the figures of ``items`` crops or pictures done in ``elapsed_s`` seconds."""
    if not latencies_s:
        return Figures(0.0, 0.0, 0.0, failures)
    p50, p99 = np.percentile(latencies_s, [50, 99])
    return Figures(items / elapsed_s, 1e3 * float(p50), 1e3 * float(p99), failures)


def table(rows: Iterable[Row], title: str, console: Console) -> None:
    """Print the rows."""
    shown = Table(title=title)
    names = [field.name for field in fields(Row)]
    for name in names:
        text = name in ("what", "model", "precision", "provider", "note")
        shown.add_column(name, justify="left" if text else "right")
    for row in rows:
        values = asdict(row)
        shown.add_row(*(_cell(values[name]) for name in names))
    console.print(shown)


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.1e}" if 0 < value < 0.01 else f"{value:.2f}"
    return str(value)


def write_csv(rows: Iterable[Row], folder: Path, machine: dict[str, str]) -> Path:
    """Write the rows, each with the description of the machine, to a file named by the GPU."""
    folder.mkdir(parents=True, exist_ok=True)
    slug = re.sub(r"[^a-z0-9]+", "-", machine["gpu"].lower()).strip("-")
    file = folder / f"gpu-{slug}.csv"
    names = [field.name for field in fields(Row)]
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, [*names, *machine])
        writer.writeheader()
        for row in rows:
            values = {
                name: float(f"{value:.5g}") if isinstance(value, float) else value
                for name, value in asdict(row).items()
            }
            writer.writerow({**values, **machine})
    return file
