"""Read the labels of classes from a file of the user."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from export.errors import ExportError
from export.spec import Label
from export.zoo.label_formats import FORMS, BadLabels

_MAX_BYTES = 16_000_000


def read(file: Path) -> list[Label]:
    """Read the labels of a user's file, in the order of the classes.

    The forms are those of `export.zoo.label_formats`: one label per line, CSV, JSON, YAML, a
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
    names = apart([label.label for label in found])
    return [replace(label, label=name) for label, name in zip(found, names, strict=True)]


def apart(names: Sequence[str]) -> list[str]:
    """The names of classes 0, 1 and so on; one that several have gets the class's number."""
    found = list(names)
    while repeated := {name for name, times in Counter(found).items() if times > 1}:
        found = [f"{n} ({index})" if n in repeated else n for index, n in enumerate(found)]
    return found


def _labels(file: Path, text: str) -> list[Label]:
    for form in FORMS:
        try:
            found = form(text)
        except BadLabels as error:
            raise ExportError(f"{file} cannot be read as labels: {error}") from error
        if found is not None:
            return found
    return []
