"""Build one model: weights -> graph -> proof -> a version folder that appears all at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from export.data import mean_image
from export.data.mean_image import MeanImage
from export.graph import graph
from export.graph.dense import Slide
from export.proof import proof
from export.proof.parity import Parity
from export.spec import Spec
from export.versions.publish import destination, publish, workshop
from export.weights import files
from export.weights.files import LoadedWeights
from export.zoo import labels
from service.manifest import FILE_NAME, Manifest, ModelFile, Weights, sha256_of

MODEL, DENSE = "model.onnx", "dense.onnx"
_ROLES: dict[str, Literal["labels", "mean_image"]] = {
    labels.FILE_NAME: "labels",
    mean_image.FILE_NAME: "mean_image",
}

Report = Callable[[str], None]


def build(
    spec: Spec,
    *,
    output: Path,
    weights_file: Path | None = None,
    mean_image_file: Path | None = None,
    seed: int | None = None,
    version: str = "1",
    force: bool = False,
    report: Report = lambda _: None,
) -> Manifest:
    """Export ``spec`` to ``output/<name>/<version>``, prove it, and return its manifest.

    The folder is made under a temporary name in ``output`` and renamed when it is complete; on
    any failure ``output`` is left as it was. An existing version is replaced only with ``force``.
    ``mean_image_file`` is a .npy file, for networks that subtract a mean of every pixel.
    Raises ExportError of every kind; ProofFailed when the export is not faithful.
    """
    target = destination(output, spec.name, version, force=force)
    mean = None
    if mean_image_file is not None:
        mean = mean_image.read(mean_image_file, spec)
        spec = mean_image.with_mean(spec, mean)
    report("reading the weights")
    loaded = files.load(spec, weights_file, seed)
    with workshop(output) as folder:
        made = make(spec, loaded, folder, mean=mean, version=version, report=report)
        proof.demand(spec.name, made.parities)
        verification = proof.record(made.parities)
        manifest = made.manifest.model_copy(update={"verification": verification})
        text = manifest.model_dump_json(indent=2) + "\n"
        (folder / FILE_NAME).write_text(text, encoding="utf-8")
        report("moving it into place")
        publish(folder, target)
    return manifest


@dataclass(frozen=True)
class Made:
    """A model in a folder: what it is, not yet verified, and how it compares."""

    manifest: Manifest
    parities: dict[str, Parity]


def make(
    spec: Spec,
    loaded: LoadedWeights,
    folder: Path,
    *,
    mean: MeanImage | None = None,
    version: str = "1",
    report: Report = lambda _: None,
    work: int | None = None,
) -> Made:
    """Export a network into ``folder``, compare it, and describe it; write no manifest.

    Whether the comparison holds is for the caller to ask.
    """
    report("tracing the network")
    model = graph.to_onnx(loaded.network, spec.input, spec.name, mean_image=mean)
    graph.save(model, folder / MODEL)
    if mean is not None:
        mean_image.write(mean, folder / mean_image.FILE_NAME)
    if spec.dense is not None:
        report("tracing its dense form")
        slide = Slide(spec.dense(loaded.network))
        rules = spec.input.model_copy(update={"mean_image": None})
        graph.save(graph.to_onnx(slide, rules, spec.name, any_size=True), folder / DENSE)
    labels.write(spec.labels, folder / labels.FILE_NAME)
    for name, text in loaded.licence.texts:
        (folder / name).write_text(text, encoding="utf-8")
    manifest = describe(spec, version, loaded.record, folder)
    return Made(manifest, proof.run(spec, loaded.network, folder / MODEL, manifest, report, work))


def describe(spec: Spec, version: str, source: Weights, folder: Path) -> Manifest:
    """The manifest of the files in ``folder``, not yet verified."""
    return Manifest(
        name=spec.name,
        version=version,
        network=spec.network,
        family=spec.family,
        year=spec.year,
        paper=spec.paper,
        parameters=spec.parameters,
        multiply_adds=spec.multiply_adds,
        weights=source,
        input=spec.input,
        resize=spec.resize,
        classes=spec.classes,
        protocols=spec.protocols,
        labels=labels.FILE_NAME,
        files=tuple(_file(path) for path in sorted(folder.iterdir(), key=_model_first)),
        published=spec.published,
    )


def _model_first(path: Path) -> tuple[bool, str]:
    return path.name != MODEL, path.name


def _file(path: Path) -> ModelFile:
    size, digest = path.stat().st_size, sha256_of(path)
    if path.name in (MODEL, DENSE):
        return ModelFile(
            path=path.name,
            role="model" if path.name == MODEL else "dense",
            precision="fp32",
            opset=graph.OPSET,
            bytes=size,
            sha256=digest,
        )
    if path.name == graph.EXTERNAL_DATA:
        return ModelFile(
            path=path.name, role="external_data", precision="fp32", bytes=size, sha256=digest
        )
    role = _ROLES.get(path.name, "licence")
    return ModelFile(path=path.name, role=role, bytes=size, sha256=digest)
