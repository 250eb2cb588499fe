"""Which networks of a library prove: each is built with random weights in a process of its own.

A process that takes too long, too much memory or dies is a row with its reason. Rows are written as
they come, and those of the same release of the library are not done again, so that the same command
goes on where it stopped.
"""

from __future__ import annotations

import csv
import importlib.metadata
import json
import multiprocessing
import signal
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from export.errors import ExportError
from export.versions import survey_one
from export.versions.verify_all import Row, line, matches, progress, write
from export.zoo import resolve

_SIZES = (
    ("zepto", "atto", "femto", "pico", "nano", "test", "pit_ti", "xxsmall", "_005", "_0_25"),
    ("tiny", "mini", "xxs", "_t0", "xs", "micro", "_025", "_050", "lite", "_b0", "_002", "18"),
    ("small", "_s", "_b1", "_004", "26", "34", "_m0", "_075", "_lcnet"),
    ("medium", "_m", "50", "_b2", "_006", "_008"),
    ("base", "_b", "101", "_016", "_032"),
    ("large", "_l", "152", "xl", "_064", "_080"),
    ("huge", "giant", "gigantic", "_h", "_g", "so400m", "so150m", "_120", "_160", "_320", "_7b"),
)
"""Parts of names, from small networks to large: the smallest of every family is tried first."""


@dataclass(frozen=True, kw_only=True)
class Surveyed(Row):
    """What was found out about one network of a library."""

    family: str = ""
    release: str = ""
    """Of the library, such as ``timm 1.0.31``."""


_WAIT = 10
"""Seconds of waiting for each second of work that a network may take."""
_ROW = TypeAdapter(Surveyed)


@dataclass(frozen=True)
class Limits:
    """What one network may take."""

    seconds: float = 600
    """Of all processors together; a machine that is busy with other work makes no network late."""
    gigabytes: float = 12
    """Of memory that is its own, 10^9 bytes each."""


def survey(
    library: str,
    *,
    file: Path,
    only: Sequence[str] = (),
    most: int | None = None,
    limits: Limits = Limits(),
    again: bool = False,
) -> list[Surveyed]:
    """Prove the networks of ``library`` whose names match one of ``only`` (all when empty).

    Goes round the families, the smaller networks first. ``most`` bounds how many are tried now.
    With ``again`` those that failed are tried once more. Writes ``file`` after each and returns
    every row of it. Raises ExportError when no name matches or ``file`` cannot be used.
    """
    release = f"{library} {importlib.metadata.version(library)}"
    before = read(file)
    if any(each.release.split()[:1] != [library] for each in before):
        raise ExportError(f"{file} is the survey of another library")
    rows = {each.name: each for each in before if each.release == release}
    names = [f"{library}:{name}" for name in resolve.names(library) if matches(name, only)]
    if not names:
        raise ExportError(f"{library} has no network called {' or '.join(only)}")
    left = [name for name in names if name not in rows or (again and not rows[name].passed)]
    chosen = in_turn(left)[:most]
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["export.versions.survey_one"])  # PyTorch is imported once
    with progress(len(chosen)) as step:
        for name in chosen:
            step(f"proving {name}")
            with tempfile.TemporaryDirectory(prefix="survey-") as scratch:
                arguments = (name, Path(scratch), limits.seconds, limits.gigabytes)
                process = context.Process(target=survey_one.main, args=arguments)
                row = _row(name, process, Path(scratch), limits)
            family = row.pop("family", resolve.family(name))
            rows[name] = Surveyed(**row, family=family, release=release)
            write(list(rows.values()), file, Surveyed)
            step(line(rows[name]), done=True)
    return list(rows.values())


def _row(name: str, process: ForkServerProcess, scratch: Path, limits: Limits) -> dict[str, Any]:
    """The fields of a row, of a process that is run to its end."""
    process.start()
    process.join(_WAIT * limits.seconds)
    late = process.is_alive()
    process.kill()
    process.join()
    result = scratch / survey_one.RESULT
    if result.is_file():
        found: dict[str, Any] = json.loads(result.read_text("utf-8"))
        return found
    late = late or process.exitcode == -signal.SIGXCPU
    ended = f"exit {process.exitcode}, most likely for want of memory"
    return {
        "name": name,
        "network": name.partition(":")[2],
        "weights": "random",
        "parameters": 0,
        "seconds": limits.seconds if late else 0.0,
        "failure": f"not done in {limits.seconds:.0f} s" if late else ended,
    }


def in_turn(names: Iterable[str]) -> list[str]:
    """``names`` in the order in which they are tried: round the families, small networks first."""
    families: dict[str, list[str]] = {}
    for name in sorted(names, key=_size):
        families.setdefault(resolve.family(name), []).append(name)
    turns = [(turn, name) for family in families.values() for turn, name in enumerate(family)]
    return [name for _, name in sorted(turns, key=lambda each: (each[0], _size(each[1])))]


def _size(name: str) -> tuple[int, int, str]:
    """How large a network seems by its name; without a hint it is taken for a middling one."""
    found = [rank for rank, parts in enumerate(_SIZES) if any(part in name for part in parts)]
    return (max(found, default=3), len(name), name)


def read(file: Path) -> list[Surveyed]:
    """The rows of ``file``; none where it is not there. Raises ExportError for another file."""
    if not file.exists():
        return []
    try:
        with file.open(encoding="utf-8", newline="") as stream:
            found = csv.DictReader(stream, strict=True)
            # an empty cell is what was not measured
            return [_ROW.validate_python({k: v for k, v in row.items() if v}) for row in found]
    except (OSError, ValueError, csv.Error) as error:
        raise ExportError(f"{file} holds no rows of a survey: {error}") from error


def summary(rows: Sequence[Surveyed]) -> str:
    """How many proved, of how many that were tried and in how many families, in a sentence."""
    passed = sum(row.passed for row in rows)
    families = len({row.family for row in rows})
    release = rows[0].release if rows else "nothing"
    share = f" ({passed / len(rows):.1%})" if rows else ""
    return f"{release}: {passed} of {len(rows)} networks proved{share}, of {families} families"
