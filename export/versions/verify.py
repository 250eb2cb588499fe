"""Prove a built model again, against a network that is built and loaded afresh."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from export.errors import ExportError, NotBuilt, ProofFailed, WeightsMismatch
from export.proof import proof
from export.proof.parity import Parity
from export.spec import Spec
from export.versions import built
from export.weights import files, untrained
from service.manifest import Manifest, sha256_of


def verify(
    spec: Spec,
    *,
    models: Path,
    weights_file: Path | None = None,
    version: str | None = None,
    report: Callable[[str], None] = lambda _: None,
    work: int | None = None,
) -> dict[str, Parity]:
    """Compare a built model with its network; returns the agreement by protocol, and ``batch``.

    Raises NotBuilt when there is nothing to verify, WeightsMismatch when the weights at hand are
    not those it was built from, ProofFailed when a file is not the one the manifest describes.
    """
    manifest = built.read_manifest(models, spec.name, version)
    folder = models / manifest.name / manifest.version
    for file in manifest.files:
        if not (folder / file.path).is_file():
            raise NotBuilt(f"{folder / file.path} is missing")
        if sha256_of(folder / file.path) != file.sha256:
            raise ProofFailed(f"{folder / file.path} is not the file that the manifest describes")
    _compare(manifest, spec)
    report("reading the weights")
    if weights_file is None and manifest.weights.source == "random":
        loaded = files.load(spec, files.RANDOM, untrained.seed_of(manifest.weights))
    else:
        loaded = files.load(spec, weights_file)
    if loaded.record.sha256 != manifest.weights.sha256:
        raise WeightsMismatch(
            f"{spec.name} was built from {manifest.weights.origin}, whose SHA-256 starts with "
            f"{manifest.weights.sha256[:8]}: name that file with --weights"
        )
    model = folder / manifest.file("model").path
    return proof.run(spec, loaded.network, model, manifest, report, work)


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


def _compare(manifest: Manifest, spec: Spec) -> None:
    """Raise ProofFailed when the manifest documents other numbers than the registry's."""
    said: dict[str, tuple[object, object]] = {
        "resize": (manifest.resize, spec.resize),
        "classes": (manifest.classes, spec.classes),
        "parameters": (manifest.parameters, spec.parameters),
    }
    if manifest.input.mean_image is None:
        said["input"] = (manifest.input, spec.input)
    for field, (have, want) in said.items():
        if have != want:
            raise ProofFailed(f"the manifest's {field} is {have}, the registry's {want}")
