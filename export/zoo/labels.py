"""The names of the classes, as ``labels.csv``: index, WordNet synset, readable label."""

from __future__ import annotations

import csv
import io
from collections import Counter
from dataclasses import astuple
from importlib import resources
from pathlib import Path

from export.spec import Label, LabelSet, Spec

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


def of(spec: Spec) -> list[Label]:
    """The classes of a network, in the order of the logits: the user's, or those of its set."""
    if spec.own_labels:
        return list(spec.own_labels)
    if spec.labels == "numbered":
        return numbered(spec.classes)
    return labels(spec.labels)


def numbered(classes: int) -> list[Label]:
    """The names of classes that nobody named: class 0, class 1 and so on."""
    return [Label(index, "", f"class {index}") for index in range(classes)]


def labels(of: LabelSet) -> list[Label]:
    """The classes of a set whose names are known, in the order of the logits: ImageNet-1k's 1,000,
    timm's larger sets of ImageNet (up to 21,843), or a small set of 10.
    """
    if of == "digits":
        return [Label(digit, "", str(digit)) for digit in range(10)]
    if of == "fashion_mnist":
        return [Label(index, "", name) for index, name in enumerate(FASHION_MNIST)]
    if of != "imagenet":
        return _large(of)
    synsets = _timm("imagenet_synsets.txt").split()
    lines = _timm("imagenet_synset_to_lemma.txt").splitlines()
    lemmas = dict(line.split("\t", 1) for line in lines)
    names = unique(_torchvision_names(), [lemmas[synset] for synset in synsets])
    return [Label(*row) for row in zip(range(len(names)), synsets, names, strict=True)]


def _large(subset: str) -> list[Label]:
    """A larger set of ImageNet's classes; a name that several have is told apart by the synset."""
    from timm.data.imagenet_info import ImageNetInfo

    known = ImageNetInfo(subset)
    synsets: list[str] = known.label_names()  # type: ignore[no-untyped-call]
    names = known.label_descriptions()
    times = Counter(names)
    return [
        Label(index, synset, f"{name} ({synset})" if times[name] > 1 else name)
        for index, (synset, name) in enumerate(zip(synsets, names, strict=True))
    ]


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


def write_rows(rows: list[Label], file: Path) -> None:
    """Write ``labels.csv``: UTF-8, one line per class, the header ``index,synset,label``."""
    file.write_text(text(rows), encoding="utf-8", newline="")


def text(rows: list[Label]) -> str:
    """What ``labels.csv`` holds."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(HEADER)
    writer.writerows(astuple(label) for label in rows)
    return stream.getvalue()


def _timm(name: str) -> str:
    return resources.files("timm.data._info").joinpath(name).read_text(encoding="utf-8")


def _torchvision_names() -> list[str]:
    from torchvision.models._meta import _IMAGENET_CATEGORIES

    return list(_IMAGENET_CATEGORIES)
