"""Describe an adopted graph: its manifest, and the texts of LICENSE and NOTICE."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from export.adoption.fitting import Fitted
from export.adoption.foreign import Foreign, parameters
from export.adoption.operators import of_the_runtime
from export.adoption.truth import Truth
from export.data import mean_image
from export.data.transforms import PROTOCOLS
from export.errors import ExportError
from export.weights.sources import licence_text
from export.zoo import labels
from service.manifest import (
    Input,
    Manifest,
    ModelFile,
    Paper,
    ProtocolName,
    Protocols,
    ProtocolSpec,
    Resize,
    Weights,
    sha256_of,
)

LICENCE = "LICENSE"
NOTICE = "NOTICE"
NOT_STATED = "not stated"
MODEL = "model.onnx"
_ROLES: dict[str, Literal["labels", "mean_image"]] = {
    labels.FILE_NAME: "labels",
    mean_image.FILE_NAME: "mean_image",
}
_GRAPHS = ("center", "ten_crop", "crops_144")
"""The protocols that need no second graph."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What only the user can know about a file; a field of None is recorded as not stated."""

    network: str
    family: str
    year: int | None = None
    paper_title: str | None = None
    paper_url: str | None = None
    licence: str | None = None
    url: str | None = None


def protocols(
    chosen: tuple[ProtocolName, ...] | None,
    input: Input,  # noqa: A002
    resize: Resize,
) -> Protocols:
    """Return the protocols of a model, the first being the default.

    Raises ExportError for one that the graph or the resize cannot serve.
    """
    room = resize.rule != "exact" and resize.size >= max(input.height, input.width)
    names = chosen or (PROTOCOLS if room else PROTOCOLS[:1])
    for name in names:
        if name not in _GRAPHS:
            raise ExportError(f"protocol {name!r}: an adopted model can have {', '.join(_GRAPHS)}")
        if name != "center" and not room:
            raise ExportError(
                f"{name} needs --resize {max(input.height, input.width)} or more, not "
                f"{resize.rule} {resize.size}"
            )
    if len(set(names)) != len(names):
        raise ExportError("a protocol is named twice")
    return Protocols(default=names[0], supported=tuple(ProtocolSpec(name=name) for name in names))


def describe(
    name: str,
    version: str,
    folder: Path,
    *,
    facts: Facts,
    foreign: Foreign,
    opset: int,
    input: Input,  # noqa: A002
    resize: Resize,
    protocols: Protocols,
    classes: int,
) -> Manifest:
    """Return the manifest of the files in ``folder``, without a record of a proof."""
    files = [MODEL, LICENCE, NOTICE, labels.FILE_NAME]
    if input.mean_image is not None:
        files.append(input.mean_image)
    return Manifest(
        name=name,
        version=version,
        network=facts.network,
        family=facts.family,
        year=facts.year,
        paper=_paper(facts),
        parameters=max(1, parameters(foreign.model)),
        weights=Weights(
            source="adopted",
            origin=foreign.file.name,
            url=facts.url,
            sha256=sha256_of(foreign.file),
            licence=facts.licence or NOT_STATED,
        ),
        input=input,
        resize=resize,
        classes=classes,
        protocols=protocols,
        labels=labels.FILE_NAME,
        files=tuple(_file(folder / file, foreign, opset) for file in files),
    )


def remarks(truth: Truth, fitted: Fitted) -> tuple[str, ...]:
    """Return what was done to the file, in a line for each change."""
    lines = [
        f"opset: {fitted.opset}",
        f"batch: {fitted.batch}",
        f"logits: {truth.tail.words}",
    ]
    if truth.original.foreign.reordered:
        lines.append("order: nodes that stood before what they read were moved behind it")
    if truth.skip_first:
        lines.append("classes: the first was dropped, probabilities are those of the rest")
    return tuple(lines)


def doubts(truth: Truth) -> tuple[str, ...]:
    """Return what a reader of the proof should know of the file itself, a line each."""
    said = "--activation softmax was said of numbers of which"
    lines = [f"{said} {doubt}" for doubt in truth.tail.doubts]
    own = of_the_runtime(truth.original.foreign.model)
    if own:
        lines.append(
            f"the file was optimised by ONNX Runtime and has its own operators ({', '.join(own)}): "
            "execution providers that lack them (OpenVINO, TensorRT) leave them to the CPU"
        )
    return tuple(lines)


def texts(file: Path, foreign: Foreign, facts: Facts, lines: tuple[str, ...]) -> tuple[str, str]:
    """Return the texts of LICENSE and NOTICE."""
    licence = (
        f"The network and its weights came as the file {file.name}.\n"
        f"Licence, as the person who adopted it stated: {facts.licence or NOT_STATED}.\n"
    )
    full = _full_text(facts.licence)
    if full:
        licence += f"\n{'-' * 72}\n\n{full.strip()}\n"
    source = f" from {facts.url}" if facts.url else ""
    notice = (
        f"model.onnx was made of {file.name}{source} (SHA-256 {sha256_of(file)}).\n"
        "Preprocessing was put before its graph, probabilities and logits behind it; labels were\n"
        "added. The weights were not trained further.\n\n"
    )
    notice += "".join(f"{line}\n" for line in lines)
    for outside in foreign.external_data:
        notice += f"weights read from {outside.name} (SHA-256 {sha256_of(outside)})\n"
    return licence, notice


def _full_text(licence: str | None) -> str | None:
    """Return the text of a licence by its SPDX identifier; None where this package has none."""
    if licence != "Apache-2.0":
        return None
    return licence_text(licence)


def _paper(facts: Facts) -> Paper | None:
    if facts.paper_title is None and facts.paper_url is None:
        return None
    return Paper(title=facts.paper_title or NOT_STATED, url=facts.paper_url or "")


def _file(path: Path, foreign: Foreign, opset: int) -> ModelFile:
    size, digest = path.stat().st_size, sha256_of(path)
    if path.name == MODEL:
        return ModelFile(
            path=path.name,
            role="model",
            precision=foreign.precision,
            opset=opset,
            bytes=size,
            sha256=digest,
        )
    return ModelFile(
        path=path.name, role=_ROLES.get(path.name, "licence"), bytes=size, sha256=digest
    )
