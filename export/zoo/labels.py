"""The names of the classes, as ``labels.csv``: index, WordNet synset, readable label."""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import astuple, dataclass
from importlib import resources
from pathlib import Path

from export.spec import LabelSet

FILE_NAME = "labels.csv"
HEADER = ("index", "synset", "label")
FASHION_MNIST = (
    "t-shirt",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)
"""The classes of Fashion-MNIST (Xiao, Rasul and Vollgraf 2017, Table 2), named as d2l.ai does."""


@dataclass(frozen=True)
class Label:
    """One class: ``synset`` is a WordNet id such as n02130308, or empty."""

    index: int
    synset: str
    label: str


def labels(of: LabelSet) -> list[Label]:
    """The classes of ImageNet-1k (1,000), or of a small set (10), in the order of the logits."""
    if of == "digits":
        return [Label(digit, "", str(digit)) for digit in range(10)]
    if of == "fashion_mnist":
        return [Label(index, "", name) for index, name in enumerate(FASHION_MNIST)]
    synsets = _timm("imagenet_synsets.txt").split()
    lines = _timm("imagenet_synset_to_lemma.txt").splitlines()
    lemmas = dict(line.split("\t", 1) for line in lines)
    names = unique(_torchvision_names(), [lemmas[synset] for synset in synsets])
    return [Label(*row) for row in zip(range(len(names)), synsets, names, strict=True)]


def unique(names: list[str], lemmas: list[str]) -> list[str]:
    """Tell classes of one name apart by the next of their lemmas (``crane, machine`` and so on).

    ``lemmas`` holds WordNet's comma-separated words per class. Raises ValueError when the lemmas
    do not tell them apart either.
    """
    repeated = {name for name, count in Counter(names).items() if count > 1}
    told_apart = []
    for name, words in zip(names, lemmas, strict=True):
        others = [word for word in words.split(", ") if word.lower() != name.lower()]
        told_apart.append(f"{name}, {others[0]}" if name in repeated and others else name)
    if len(set(told_apart)) != len(told_apart):
        doubles = [name for name, count in Counter(told_apart).items() if count > 1]
        raise ValueError(f"labels that stay ambiguous: {', '.join(doubles)}")
    return told_apart


def write(of: LabelSet, file: Path) -> None:
    """Write ``labels.csv`` of one of our own sets of classes."""
    write_rows(labels(of), file)


def write_rows(rows: list[Label], file: Path) -> None:
    """Write ``labels.csv``: UTF-8, one line per class, the header ``index,synset,label``."""
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(HEADER)
        writer.writerows(astuple(label) for label in rows)


def _timm(name: str) -> str:
    return resources.files("timm.data._info").joinpath(name).read_text(encoding="utf-8")


def _torchvision_names() -> list[str]:
    from torchvision.models._meta import _IMAGENET_CATEGORIES

    return list(_IMAGENET_CATEGORIES)
