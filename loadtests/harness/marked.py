"""Make versions of a model that each of their answers tells apart.

Each is LeNet-5 with another bias of its last layer, so that it is sure of one class, its number
modulo 10, whatever it sees; and with labels that name the version. So an answer shows which graph
computed it, which labels it got, and which version it says it is of: all three must agree.
"""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import models
from service.manifest import sha256_of

SOURCE = models.REPOSITORY / "lenet5" / "1"
_BIAS = b"network.output.bias\x4a\x28"
"""In the ONNX: a name, then the tag and length of its 10 floats (protobuf)."""
CLASSES = 10
SURE = 1e3
"""Added to the logit of a version's class."""


def add(folder: Path, name: str, version: int, *, broken: bool = False) -> Path:
    """Put a version into the repository in one step, as docs/versions.md says; return its folder.

    A ``broken`` one has the size that its manifest says, and other bytes.
    """
    draft = folder / f".{name}-{version}"
    shutil.copytree(SOURCE, draft)
    _mark_graph(draft / "model.onnx", version)
    _mark_labels(draft / "labels.csv", version)
    manifest = json.loads((draft / "manifest.json").read_text())
    manifest.update(name=name, version=str(version))
    for file in manifest["files"]:
        path = draft / file["path"]
        file.update(bytes=path.stat().st_size, sha256=sha256_of(path))
    (draft / "manifest.json").write_text(json.dumps(manifest))
    if broken:
        (draft / "model.onnx").write_bytes(bytes((draft / "model.onnx").stat().st_size))
    target = folder / name / str(version)
    target.parent.mkdir(parents=True, exist_ok=True)
    return draft.replace(target)


def remove(folder: Path, name: str, version: int) -> None:
    """Take a version out of the repository in one step, then delete it."""
    shutil.rmtree((folder / name / str(version)).replace(folder / f".gone-{name}-{version}"))


def label(index: int, version: int) -> str:
    """Return what this version calls a class."""
    return f"{index} of version {version}"


def is_whole(answer: Mapping[str, Any]) -> bool:
    """Whether graph, labels and version of an answer of ``/classify`` belong together."""
    version, first = int(answer["version"]), answer["predictions"][0]
    return first["index"] == version % CLASSES and all(
        each["label"] == label(each["index"], version) for each in answer["predictions"]
    )


def _mark_graph(path: Path, version: int) -> None:
    data = bytearray(path.read_bytes())
    start = data.index(_BIAS) + len(_BIAS)
    bias = np.frombuffer(data, np.float32, CLASSES, start).copy()
    bias[version % CLASSES] += SURE
    data[start : start + bias.nbytes] = bias.tobytes()
    path.write_bytes(data)


def _mark_labels(path: Path, version: int) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("index", "synset", "label"))
    writer.writerows((index, "", label(index, version)) for index in range(CLASSES))
    path.write_text(text.getvalue())
