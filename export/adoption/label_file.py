"""Read the labels of classes from a file of the user."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

from export.adoption.label_formats import FORMS, BadLabels
from export.errors import ExportError
from export.zoo.labels import Label

_MAX_BYTES = 16_000_000


def read(file: Path) -> list[Label]:
    """Read the labels of a user's file, in the order of the classes.

    The forms are those of `export.adoption.label_formats`: one label per line, CSV, JSON, YAML, a
    literal of Python or a label map of TensorFlow. A name that several classes share is told apart
    by the class's number. Raises ExportError where the file has none of these forms, or numbers its
    classes in another order.
    """
    try:
        if file.stat().st_size > _MAX_BYTES:
            raise ExportError(f"{file} is larger than {_MAX_BYTES} bytes")
        text = file.read_text(encoding="utf-8-sig").strip()
    except OSError as error:
        raise ExportError(f"cannot read {file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ExportError(f"{file} is not UTF-8 text") from error
    found = _labels(file, text) if text else []
    for label in found:
        if not label.label or not label.label.isprintable():
            raise ExportError(f"{file} has an empty or unprintable label for class {label.index}")
    repeated = {name for name, times in Counter(x.label for x in found).items() if times > 1}
    return [
        replace(label, label=f"{label.label} ({label.index})") if label.label in repeated else label
        for label in found
    ]


def _labels(file: Path, text: str) -> list[Label]:
    for form in FORMS:
        try:
            found = form(text)
        except BadLabels as error:
            raise ExportError(f"{file} cannot be read as labels: {error}") from error
        if found is not None:
            return found
    return []
