"""List labelled pictures on disk: a folder of class folders, or a list of files and labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from export.errors import ExportError
from service.manifest import Label

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp"})


class DatasetRefused(ExportError):
    """The folder or list cannot be read as labelled pictures of this model's classes."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One picture and the index of its class."""

    path: Path
    name: str
    """The path relative to the folder, which reports show."""
    target: int


class Classes:
    """Finds the index of a class by its synset, its index or its name.

    Names are told apart by case where they must be: ImageNet has a Cardigan, the dog, and a
    cardigan, the garment.
    """

    def __init__(self, labels: Sequence[Label]) -> None:
        self._exact = {label.name: index for index, label in enumerate(labels)}
        self._exact |= {label.synset: index for index, label in enumerate(labels) if label.synset}
        self._exact |= {str(index): index for index in range(len(labels))}
        folded = [label.name.casefold() for label in labels]
        self._folded = {name: index for index, name in enumerate(folded) if folded.count(name) == 1}

    def index(self, text: str) -> int | None:
        """Return the index of the class that ``text`` names, or None; underscores may be spaces."""
        for form in (text.strip(), text.strip().replace("_", " ")):
            found = self._exact.get(form, self._folded.get(form.casefold()))
            if found is not None:
                return found
        return None


def from_folders(folder: Path, classes: Classes) -> tuple[list[Sample], Counter[str]]:
    """Return every picture below ``folder/<class>/``, sorted, and the other files' count by suffix.

    Raises DatasetRefused where a folder names no class, or there is no picture.
    """
    if not folder.is_dir():
        raise DatasetRefused(f"there is no folder {folder}")
    samples: list[Sample] = []
    unknown: list[str] = []
    others = Counter(_suffix(path) for path in folder.iterdir() if path.is_file())
    for child in sorted(path for path in folder.iterdir() if path.is_dir()):
        target = classes.index(child.name)
        if target is None:
            unknown.append(child.name)
            continue
        for path in sorted(child.rglob("*")):
            if path.suffix.lower() in SUFFIXES:
                samples.append(Sample(path, str(path.relative_to(folder)), target))
            elif path.is_file():
                others[_suffix(path)] += 1
    if unknown:
        shown = ", ".join(unknown[:3]) + (f" and {len(unknown) - 3} more" if unknown[3:] else "")
        raise DatasetRefused(f"{folder} has folders that name no class of the model: {shown}")
    if not samples:
        raise DatasetRefused(
            f"{folder} has no pictures in class folders; --list FILE takes a list of labels"
        )
    return samples, others


def _suffix(path: Path) -> str:
    return path.suffix.lower() or "without a suffix"


def from_list(
    folder: Path, file: Path, classes: Classes, id_synsets: Path | None = None
) -> list[Sample]:
    """Return the pictures of ``folder`` that a list names. Raises DatasetRefused at a bad line.

    Two forms: ``path label`` per line (Caffe's val.txt, for example; the label is an index, a
    synset or a name), or one number per line for the sorted files of the folder: the ILSVRC
    development kit's ground truth. Its numbers are not the networks' indices, so that form
    needs ``id_synsets``: one synset per line, in the kit's order (from its meta file).
    """
    lines = _lines(file)
    if not lines:
        raise DatasetRefused(f"{file} is empty")
    if all(len(line.split()) == 1 and line.isdigit() for _, line in lines):
        lines = _ground_truth(folder, file, [int(line) for _, line in lines], id_synsets)
    samples = []
    for number, line in lines:
        name, _, label = line.partition("\t") if "\t" in line else line.partition(" ")
        target = classes.index(label)
        if target is None:
            raise DatasetRefused(f"{file}, line {number}: {label.strip()!r} names no class")
        path = folder / name
        if not path.resolve().is_relative_to(folder.resolve()):
            raise DatasetRefused(f"{file}, line {number}: {name} lies outside of {folder}")
        samples.append(Sample(path, name, target))
    return samples


def _ground_truth(
    folder: Path, file: Path, numbers: list[int], id_synsets: Path | None
) -> list[tuple[int, str]]:
    if id_synsets is None:
        raise DatasetRefused(
            f"{file} holds numbers only: the ILSVRC kit's ids are not the networks' indices; "
            "give --id-synsets FILE with one synset per line in the kit's order"
        )
    synsets = [line.split()[0] for _, line in _lines(id_synsets)]
    names = sorted(p.name for p in folder.iterdir() if p.suffix.lower() in SUFFIXES)
    if len(names) != len(numbers):
        raise DatasetRefused(f"{folder} has {len(names)} pictures, {file} {len(numbers)} lines")
    if not all(1 <= number <= len(synsets) for number in numbers):
        raise DatasetRefused(f"{file} has ids outside of 1 to {len(synsets)}")
    return [
        (line, f"{name}\t{synsets[number - 1]}")
        for line, (name, number) in enumerate(zip(names, numbers, strict=True), start=1)
    ]


def _lines(file: Path) -> list[tuple[int, str]]:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetRefused(f"{file} cannot be read: {error}") from error
    numbered = enumerate(text.splitlines(), start=1)
    return [(number, line.strip()) for number, line in numbered if line.strip()]
