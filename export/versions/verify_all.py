"""Prove every network of the registry: one process each, so that its memory comes back.

What is built is verified as it is; what is not is built in a temporary folder, with trained
weights where this machine has them, else with seeded random ones. Downloads are never started.
"""

from __future__ import annotations

import csv
import fnmatch
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from export.errors import ExportError
from export.spec import Spec
from export.zoo import registry


@dataclass(frozen=True)
class Row:
    """What was found out about one network: a line of the table and of the CSV."""

    name: str
    network: str
    weights: str
    parameters: int
    pictures: int = 0
    """Compared under ``center``."""
    ten_crop_pictures: int = 0
    max_probability_difference: float | None = None
    max_logit_difference_in_std: float | None = None
    top5_agreement: float | None = None
    distinct_top5: int | None = None
    """Under ``center``."""
    spread: float | None = None
    passed: bool = False
    seconds: float = 0.0
    failure: str = ""


def verify_all(*, models: Path, only: Sequence[str], csv: Path | None) -> bool:
    """Prove every network whose name matches one of ``only`` (all when empty); whether all passed.

    Prints a line per network and a table at the end, and writes ``csv``, after each network.
    Raises ExportError when no name matches or the file cannot be written.
    """
    chosen = [spec for spec in registry.specs() if matches(spec.name, only)]
    if not chosen:
        raise ExportError(f"no network is called {' or '.join(only)}")
    rows: list[Row] = []
    with progress(len(chosen)) as step:
        for spec in chosen:
            step(f"proving {spec.name}")
            rows.append(prove_apart(spec, models))
            step(line(rows[-1]), done=True)
            if csv is not None:
                write(rows, csv)
    print_rows(rows)
    return all(row.passed for row in rows)


def prove_apart(spec: Spec, models: Path) -> Row:
    """Prove one network in a process of its own; a process that dies is a failure, not an end."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="verify-") as scratch:
        result = Path(scratch, "row.json")
        done = subprocess.run(  # noqa: S603
            [sys.executable, "-m", "export.versions.verify_one", spec.name, str(models), scratch],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        seconds = round(time.monotonic() - start, 1)
        if done.returncode == 0 and result.is_file():
            return Row(**{**json.loads(result.read_text("utf-8")), "seconds": seconds})
    lines = done.stderr.strip().splitlines() or [""]
    return Row(
        name=spec.name,
        network=spec.network,
        weights="",
        parameters=spec.parameters,
        seconds=seconds,
        failure=f"exit {done.returncode}: {lines[-1][:300]}".strip(),
    )


def write(rows: Sequence[Row], file: Path, kind: type[Row] = Row) -> None:
    """Write ``rows``, all of this kind, as CSV. Raises ExportError where that cannot be done."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("w", encoding="utf-8", newline="") as stream:
            names = [field.name for field in fields(kind)]
            writer = csv.DictWriter(stream, names, lineterminator="\n")
            writer.writeheader()
            for row in rows:
                writer.writerow({key: _cell(value) for key, value in asdict(row).items()})
    except OSError as error:
        raise ExportError(f"cannot write {file}: {error.strerror or error}") from error


def print_rows(rows: Sequence[Row]) -> None:
    """Print the table; as wide as it needs to be where there is no terminal."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=200)
    passed = sum(row.passed for row in rows)
    table = Table(title=f"{passed} of {len(rows)} networks proved")
    for heading in ("name", "network", "weights"):
        table.add_column(heading, no_wrap=True)
    for heading in ("parameters", "pictures", "max |dp|", "max dlogit/std", "top-5", "distinct"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("passed")
    table.add_column("s", justify="right")
    for row in rows:
        table.add_row(
            row.name,
            row.network,
            row.weights,
            f"{row.parameters:,}",
            f"{row.pictures}+{row.ten_crop_pictures}",
            _cell(row.max_probability_difference),
            _cell(row.max_logit_difference_in_std),
            _cell(row.top5_agreement),
            _cell(row.distinct_top5),
            "yes" if row.passed else f"NO: {row.failure}",
            f"{row.seconds:.0f}",
        )
    console.print(table)


def matches(name: str, only: Sequence[str]) -> bool:
    """Whether a name matches one of the patterns (* and ?), or there are none."""
    return not only or any(fnmatch.fnmatchcase(name, pattern) for pattern in only)


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1 else f"{value:g}"
    return "" if value is None else str(value)


def line(row: Row) -> str:
    """What was found out about one network, for a person."""
    if row.passed:
        return f"{row.name}: passed, {row.weights} weights, {row.seconds:.0f} s"
    return f"{row.name}: FAILED, {row.failure}"


class Steps:
    """Lines where there is no terminal, a bar where there is one."""

    def __init__(self, bar: Progress | None, total: int) -> None:
        self.bar = bar
        self.task = bar.add_task("", total=total) if bar is not None else None

    def __call__(self, words: str, *, done: bool = False) -> None:
        if self.bar is None or self.task is None:
            if done:
                print(words, flush=True)
        elif done:
            self.bar.console.print(words, highlight=False)
            self.bar.advance(self.task)
        else:
            self.bar.update(self.task, description=words)


@contextmanager
def progress(total: int) -> Iterator[Steps]:
    """Yield what tells the current step of ``total``, and with ``done`` that it is one further."""
    if not Console().is_terminal:
        yield Steps(None, total)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn()) as bar:
        yield Steps(bar, total)
