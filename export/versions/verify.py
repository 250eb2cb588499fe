"""Prove a built model again, against a network that is built and loaded afresh."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from export.data import pictures
from export.errors import (
    ExportError,
    NotBuilt,
    ProofFailed,
    WeightsMismatch,
    WeightsUnavailable,
)
from export.proof import proof
from export.proof.parity import Parity
from export.spec import Spec
from export.versions import built
from export.versions.build import load
from export.versions.own import of
from export.weights import files, untrained
from export.weights.files import LoadedWeights
from export.zoo import labels, resolve
from service.manifest import FILE_NAME, Manifest, sha256_of


def verify(
    name: str,
    *,
    models: Path,
    weights_file: Path | None = None,
    labels_file: Path | None = None,
    pictures_folder: Path | None = None,
    version: str | None = None,
    report: Callable[[str], None] = lambda _: None,
    work: int | None = None,
) -> dict[str, Parity]:
    """Compare a built model with its network; returns the agreement by protocol, and ``batch``.

    Raises NotBuilt when there is nothing to verify, WeightsMismatch when the weights at hand are
    not those it was built from, ProofFailed when a file is not the one the manifest describes.
    """
    manifest = built.read_manifest(models, name, version)
    folder = models / name / manifest.version
    if manifest.name != name or not (folder / FILE_NAME).is_file():
        raise ProofFailed(f"{models / name} holds the manifest of {manifest.name}")
    for file in manifest.files:
        if not (folder / file.path).is_file():
            raise NotBuilt(f"{folder / file.path} is missing")
        if sha256_of(folder / file.path) != file.sha256:
            raise ProofFailed(f"{folder / file.path} is not the file that the manifest describes")
    if manifest.schema_version > 1 and (manifest.digest is None or manifest.build is None):
        raise ProofFailed(f"{folder / FILE_NAME} has lost what its build recorded")
    if manifest.as_built is False:
        raise ProofFailed(
            f"{folder / FILE_NAME} was edited since it was written: it has another digest"
        )
    spec = resolve.network(manifest.build.network if manifest.build else manifest.name)
    own = of(manifest, folder, labels_file)
    report("reading the weights")
    if weights_file is None and manifest.weights.source == "random":
        loaded, build = load(spec, own, files.RANDOM, untrained.seed_of(manifest.weights))
    else:
        _demand_same(manifest, spec, weights_file)
        loaded, build = load(spec, own, weights_file, None)
    if loaded.record.sha256 != manifest.weights.sha256:
        raise _other_weights(manifest)
    if manifest.build is not None and build != manifest.build:
        raise ProofFailed(
            f"the manifest's build is {manifest.build}, a build now says {build}"[:400]
        )
    _compare(manifest, loaded, folder)
    model = folder / manifest.file("model").path
    sample = None if pictures_folder is None else pictures.below(pictures_folder)
    return proof.run(loaded.spec, loaded.network, model, manifest, report, work, sample)


def _demand_same(manifest: Manifest, spec: Spec, weights_file: Path | None) -> None:
    """Raise WeightsMismatch, before they are fitted, where other weights are at hand."""
    source = weights_file or spec.weights.locate(spec.name)
    if not source.is_file():
        raise WeightsUnavailable(f"no such weights file: {source}")
    if sha256_of(source) != manifest.weights.sha256:
        raise _other_weights(manifest)


def _other_weights(manifest: Manifest) -> WeightsMismatch:
    return WeightsMismatch(
        f"{manifest.name} was built from {manifest.weights.origin}, whose SHA-256 starts with "
        f"{manifest.weights.sha256[:8]}: name that file with --weights"
    )


def adopted(models: Path, name: str, version: str | None) -> Manifest | None:
    """The manifest of a model that was adopted; None for any other, and where there is none."""
    if not built.versions(models, name):
        return None
    manifest = built.read_manifest(models, name, version)
    return manifest if manifest.weights.source == "adopted" else None


def refuse_adopted(manifest: Manifest) -> None:
    """Raise ExportError for an adopted model: no network of the registry can be set against it.

    Adoption proves a model against the file that it came from, which is not kept.
    """
    raise ExportError(
        f"{manifest.name} was adopted from {manifest.weights.origin} and proved against it then: "
        "to prove it again, adopt that file again with --force"
    )


def _compare(manifest: Manifest, loaded: LoadedWeights, folder: Path) -> None:
    """Raise ProofFailed when the manifest says anything else than what a build would say now."""
    spec = loaded.spec
    record = manifest.verification
    if record is None or not record.passed:
        raise ProofFailed(f"{folder} records no proof that held")
    said: dict[str, tuple[object, object]] = {
        "network": (manifest.network, spec.network),
        "family": (manifest.family, spec.family),
        "year": (manifest.year, spec.year),
        "paper": (manifest.paper, spec.paper),
        "resize": (manifest.resize, spec.resize),
        "classes": (manifest.classes, spec.classes),
        "activation": (manifest.activation, "softmax"),
        "protocols": (manifest.protocols, spec.protocols),
        "parameters": (manifest.parameters, spec.parameters),
        "multiply_adds": (manifest.multiply_adds, spec.multiply_adds),
        "published": (manifest.published, spec.published),
        "weights": (manifest.weights, loaded.record),
        "labels": (_read(folder / manifest.labels), labels.text(labels.of(spec))),
    }
    if manifest.input.mean_image is None:
        said["input"] = (manifest.input, spec.input)
    for field, (have, want) in said.items():
        if have != want:
            raise ProofFailed(
                f"the manifest's {field} is {str(have)[:200]}, a build now says {str(want)[:200]}"
            )


def _read(file: Path) -> str:
    """The text of a file, with its ends of lines as they are."""
    return file.read_bytes().decode()
