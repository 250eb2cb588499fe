"""Adopt one foreign ONNX classifier: read, wrap, prove, and put it among the models."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from export.adoption import description, fitting, foreign, tail
from export.adoption.description import LICENCE, MODEL, NOTICE, Facts
from export.adoption.foreign import Wishes
from export.adoption.original import Original, Pixels
from export.adoption.presets import Preprocessing
from export.adoption.proof import crops_of, prove
from export.adoption.truth import Truth
from export.data import mean_image, pictures
from export.errors import ForeignModelRefused, NotBuilt
from export.proof import proof
from export.proof.parity import Exported, Parity
from export.spec import Label
from export.versions.publish import destination, publish, workshop
from export.zoo import label_file, labels
from service.manifest import FILE_NAME, Input, Manifest, ProtocolName, Resize

_IMAGENET = 1000
_PROBES = 5

Report = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Adoption:
    """What the user asks for: the file, and what only the user knows of it."""

    file: Path
    name: str
    version: str
    preprocessing: Preprocessing
    wishes: Wishes
    facts: Facts
    labels: Path | None = None
    mean_image: Path | None = None
    skip_first: bool = False
    pictures: Path | None = None
    """Folder of the pictures to prove with; None: photographs of packages and random ones."""
    protocols: tuple[ProtocolName, ...] | None = None
    """None: center, and ten_crop where the resize leaves room for it."""


@dataclass(frozen=True)
class Adopted:
    """The result of an adoption: the folder that was written and its proof."""

    manifest: Manifest
    parities: dict[str, Parity]
    remarks: tuple[str, ...]
    """What was done to the file, a line each, and what to know of its proof."""


def adopt(
    adoption: Adoption, *, output: Path, force: bool = False, report: Report = lambda _: None
) -> Adopted:
    """Write ``output/<name>/<version>`` from a foreign file and prove it against that file.

    ``output`` is left as it was on any failure. Raises ForeignModelRefused when the file is no
    classifier that can be served, ProofFailed when the result does not compute what it did, and
    every other ExportError.
    """
    target = destination(output, adoption.name, adoption.version, force=force)
    from_file = label_file.read(adoption.labels) if adoption.labels else None
    report("reading the file")
    found = foreign.read(adoption.file, adoption.wishes)
    size = found.signature
    input = adoption.preprocessing.input(size.height, size.width, size.channels)  # noqa: A001
    if size.type == onnx.TensorProto.UINT8 and not _is_raw(input):
        raise ForeignModelRefused("it takes bytes and normalises by itself: --preset raw fits")
    resize = adoption.preprocessing.resizing(size.height, size.width)
    protocols = description.protocols(adoption.protocols, input, resize)
    mean = None
    if adoption.mean_image is not None:
        if size.type == onnx.TensorProto.UINT8:
            raise ForeignModelRefused("it takes bytes: a mean image cannot be subtracted")
        mean = mean_image.read_for(adoption.mean_image, input)
        input = mean_image.rules(input, mean)  # noqa: A001
    original = Original(found, input, mean)
    names = _labels(from_file, original.classes, skip_first=adoption.skip_first)
    with workshop(output) as folder:
        report("finding its probabilities and logits")
        sample = _sample(adoption.pictures)
        probes = _probes(sample, input, resize)
        end = tail.find(
            found,
            original,
            original.pictures(probes),
            adoption.wishes.activation,
            imagenet=from_file is None and len(names) == _IMAGENET,
        )
        truth = Truth(original, end, skip_first=adoption.skip_first)
        fitted = fitting.fit(truth, probes, report)
        onnx.save(fitted.model, folder / MODEL)
        labels.write_rows(names, folder / labels.FILE_NAME)
        if mean is not None:
            mean_image.write(mean, folder / mean_image.FILE_NAME)
        remarks = description.remarks(truth, fitted)
        licence, notice = description.texts(adoption.file, found, adoption.facts, remarks)
        (folder / LICENCE).write_text(licence, encoding="utf-8")
        (folder / NOTICE).write_text(notice, encoding="utf-8")
        manifest = description.describe(
            adoption.name,
            adoption.version,
            folder,
            facts=adoption.facts,
            foreign=found,
            opset=foreign.opset_of(fitted.model),
            input=input,
            resize=resize,
            protocols=protocols,
            classes=len(names),
        )
        parities = prove(truth, _open(folder / MODEL, manifest), sample, report)
        proof.demand(adoption.name, parities, own_pictures=adoption.pictures is not None)
        verification = proof.record(parities, description.doubts(truth))
        manifest = manifest.model_copy(update={"verification": verification}).signed()
        text = manifest.model_dump_json(indent=2) + "\n"
        (folder / FILE_NAME).write_text(text, encoding="utf-8")
        report("moving it into place")
        publish(folder, target)
    return Adopted(manifest, parities, remarks)


def _sample(folder: Path | None) -> dict[str, bytes]:
    """Return the encoded pictures to prove with, by name."""
    if folder is not None:
        return pictures.below(folder)
    return {**pictures.photographs(), **pictures.random_pictures()}


def _is_raw(input: Input) -> bool:  # noqa: A002
    return input.rescale == 1 and not any(input.mean) and set(input.std) == {1.0}


def _labels(from_file: list[Label] | None, classes: int, *, skip_first: bool) -> list[Label]:
    """Return the labels of the served classes.

    Raises ForeignModelRefused when their number is not that of the classes.
    """
    served = classes - skip_first
    if served < 2:
        raise ForeignModelRefused("without its first class it has only one")
    if from_file is not None and skip_first and len(from_file) == classes:
        from_file = [Label(label.index - 1, label.synset, label.label) for label in from_file[1:]]
    if from_file is not None:
        if len(from_file) != served:
            raise ForeignModelRefused(f"it has {served} classes, the labels file {len(from_file)}")
        return from_file
    if served == _IMAGENET:
        return labels.labels("imagenet")
    hint = " (or --skip-first, if the first is a background)" if served == _IMAGENET + 1 else ""
    raise ForeignModelRefused(f"it has {served} classes: --labels FILE must name them{hint}")


def _probes(sample: Mapping[str, bytes], input: Input, resize: Resize) -> Pixels:  # noqa: A002
    """Cut centre crops uint8 [5, H, W, C] from five pictures, photographs and random ones."""
    chosen = list(sample.values())[:: -max(1, len(sample) // _PROBES)]
    chosen = (chosen * _PROBES)[:_PROBES]  # a folder may have four
    return np.concatenate([crops_of(picture, input, resize, "center") for picture in chosen])


def _open(model: Path, manifest: Manifest) -> Exported:
    try:
        return Exported(model, manifest)
    except Exception as error:  # ONNX Runtime's exceptions have no common base but Exception
        raise NotBuilt(f"{model} cannot be opened: {error}") from error
