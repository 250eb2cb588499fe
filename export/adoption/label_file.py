"""Labels that a user brings along."""

from __future__ import annotations

import csv
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

from export.errors import ExportError
from export.labels import HEADER, Label

_SYNSET = re.compile(r"n[0-9]{8}")
_MAX_BYTES = 16_000_000


def read(file: Path) -> list[Label]:
    """Labels from a user's file, in the order of the classes.

    Either ``labels.csv`` as it is written here, or one label per line, which may start with its
    synset (``n01440764 tench, Tinca tinca``). A name that several classes share is told apart by
    the class's number. Raises ExportError when it is neither.
    """
    try:
        if file.stat().st_size > _MAX_BYTES:
            raise ExportError(f"{file} is larger than {_MAX_BYTES} bytes")
        text = file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ExportError(f"cannot read {file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ExportError(f"{file} is not UTF-8 text") from error
    lines = text.strip().splitlines()
    if lines and tuple(lines[0].strip().split(",")) == HEADER:
        found = _read_csv(file, lines)
    else:
        found = [_read_line(index, line) for index, line in enumerate(lines)]
    for label in found:
        if not label.label or not label.label.isprintable():
            raise ExportError(f"{file} has an empty or unprintable label for class {label.index}")
    repeated = {name for name, times in Counter(x.label for x in found).items() if times > 1}
    return [
        replace(label, label=f"{label.label} ({label.index})") if label.label in repeated else label
        for label in found
    ]


def _read_csv(file: Path, lines: list[str]) -> list[Label]:
    try:
        rows = list(csv.DictReader(lines, strict=True))
        found = [Label(int(row["index"]), row["synset"], row["label"].strip()) for row in rows]
    except (ValueError, TypeError, AttributeError, csv.Error) as error:
        raise ExportError(f"{file} is not a CSV of {','.join(HEADER)}: {error}") from error
    if [label.index for label in found] != list(range(len(found))):
        raise ExportError(f"{file} does not list the indices from 0 in order")
    return found


def _read_line(index: int, line: str) -> Label:
    first, _, rest = line.strip().partition(" ")
    if _SYNSET.fullmatch(first) and rest.strip():
        return Label(index, first, rest.strip())
    return Label(index, "", line.strip())
