"""One network of a survey, in a process of its own."""

from __future__ import annotations

import json
import os
import resource
import time
import warnings
from dataclasses import asdict
from pathlib import Path

from export.errors import ExportError
from export.versions.build import make
from export.versions.verify_one import row_of
from export.weights import files
from export.zoo import resolve

RESULT = "row.json"
WORK = 6_000_000_000
"""Multiply-adds of one protocol on one side: with most networks four pictures, two of ten crops."""


def main(name: str, scratch: Path, seconds: float, gigabytes: float) -> None:
    """Write `RESULT` into ``scratch``: the row of network ``name``, or why there is none."""
    limit = int(gigabytes * 1e9)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    worked = time.process_time()
    resource.setrlimit(resource.RLIMIT_CPU, (int(worked + seconds), int(worked + seconds) + 5))
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 2)  # the tracer's notes
    warnings.simplefilter("ignore")
    row: dict[str, object] = {
        "name": name,
        "network": name.partition(":")[2],
        "weights": "random",
        "parameters": 0,
    }
    try:
        spec = resolve.network(name)
        row |= {"family": spec.family, "parameters": spec.parameters}
        made = make(spec, files.load(spec, files.RANDOM), scratch, work=WORK)
        row |= asdict(row_of(spec, "random", made.parities)) | {"name": name}
    except Exception as error:  # noqa: BLE001  whatever a library raises is the answer
        row["failure"] = _reason(error)
    row["seconds"] = round(time.process_time() - worked, 1)
    text = json.dumps(row)
    (scratch / RESULT).write_text(text, encoding="utf-8")


def _reason(error: BaseException) -> str:
    """The innermost cause, in one line."""
    while error.__cause__ is not None and not isinstance(error, ExportError):
        error = error.__cause__
    words = " ".join(str(error).split())[:300]
    return words if isinstance(error, ExportError) else f"{type(error).__name__}: {words}"
