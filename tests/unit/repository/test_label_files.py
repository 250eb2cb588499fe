"""A file of labels names each class once, in the order of the network's outputs."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtests.harness import marked
from service.manifest import Manifest, RefusedModelError
from service.repository import versions_on_disk
from service.repository.versions_on_disk import Version

ROWS = [f"{index},,name {index}" for index in range(10)]
HEAD = "index,synset,label"


def labels(folder: Path, rows: list[str], head: str = HEAD) -> list[str]:
    path = marked.add(folder, "net", 1)
    manifest = versions_on_disk.read(Version("net", "1", path))
    assert isinstance(manifest, Manifest)
    (path / manifest.labels).write_text("\n".join([head, *rows]) + "\n")
    return [label.name for label in versions_on_disk.labels(path, manifest)]


def test_each_class_has_its_name(tmp_path: Path) -> None:
    assert labels(tmp_path, ROWS) == [f"name {index}" for index in range(10)]


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (ROWS[::-1], "does not list the indices 0 to 9 in order"),
        (sorted(ROWS, reverse=True), "in order"),
        (ROWS[:9], "in order"),
        ([*ROWS, "10,,one more"], "in order"),
        ([*ROWS[:9], "8,,twice"], "in order"),
        ([*ROWS[:9], "10,,a gap"], "in order"),
        ([*ROWS[:9], "9,,name 0"], "a repeated label"),
        ([*ROWS[:9], "9,,"], "an empty"),
        ([*ROWS[:9], "nine,,name 9"], "cannot be read"),
    ],
)
def test_others_are_refused(rows: list[str], reason: str, tmp_path: Path) -> None:
    with pytest.raises(RefusedModelError, match=reason):
        labels(tmp_path, rows)
