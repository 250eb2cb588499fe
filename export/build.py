"""Build one model: weights -> graph -> proof -> a version folder that appears all at once."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from export import graph, labels, proof, weights
from export.errors import ExportError, OutputRefused
from export.parity import Parity
from export.registry import Spec
from export.weights import LoadedWeights
from service.manifest import FILE_NAME, Manifest, ModelFile, Weights, sha256_of

MODEL = "model.onnx"
_VERSION = re.compile(r"[1-9][0-9]{0,8}")

Report = Callable[[str], None]


def build(
    spec: Spec,
    *,
    output: Path,
    weights_file: Path | None = None,
    seed: int | None = None,
    version: str = "1",
    force: bool = False,
    report: Report = lambda _: None,
) -> Manifest:
    """Export ``spec`` to ``output/<name>/<version>``, prove it, and return its manifest.

    The folder is made under a temporary name in ``output`` and renamed when it is complete; on
    any failure ``output`` is left as it was. An existing version is replaced only with ``force``.
    Raises ExportError of every kind; ProofFailed when the export is not faithful.
    """
    if not _VERSION.fullmatch(version):
        raise ExportError(f"version {version!r} is no whole number from 1 to 999999999")
    target = output / spec.name / version
    if target.exists() and not target.is_dir():
        raise OutputRefused(f"{target} is in the way: it is no folder")
    if target.exists() and not force:
        raise OutputRefused(f"{target} is already there; --force replaces it")
    report("reading the weights")
    loaded = weights.load(spec, weights_file, seed)
    with _workshop(output) as folder:
        made = make(spec, loaded, folder, version=version, report=report)
        proof.demand(spec.name, made.parities)
        verification = proof.record(made.parities)
        manifest = made.manifest.model_copy(update={"verification": verification})
        text = manifest.model_dump_json(indent=2) + "\n"
        (folder / FILE_NAME).write_text(text, encoding="utf-8")
        report("moving it into place")
        _publish(folder, target)
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
    version: str = "1",
    report: Report = lambda _: None,
    work: int = proof.WORK,
) -> Made:
    """Export a network into ``folder``, compare it, and describe it; write no manifest.

    Whether the comparison holds is for the caller to ask.
    """
    report("tracing the network")
    graph.save(graph.to_onnx(loaded.network, spec.input, spec.name), folder / MODEL)
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
    if path.name == MODEL:
        return ModelFile(
            path=path.name,
            role="model",
            precision="fp32",
            opset=graph.OPSET,
            bytes=size,
            sha256=digest,
        )
    if path.name == graph.EXTERNAL_DATA:
        return ModelFile(
            path=path.name, role="external_data", precision="fp32", bytes=size, sha256=digest
        )
    role = "labels" if path.name == labels.FILE_NAME else "licence"
    return ModelFile(path=path.name, role=role, bytes=size, sha256=digest)


@contextlib.contextmanager
def _workshop(output: Path) -> Iterator[Path]:
    """A hidden folder inside ``output``; what is left of it goes, and so does a new ``output``.

    Raises OutputRefused when ``output`` cannot be written, then or later.
    """
    new = [path for path in (output, *output.parents) if not path.exists()]
    try:
        try:
            output.mkdir(parents=True, exist_ok=True)
            # the service ignores names that start with a dot
            folder = Path(tempfile.mkdtemp(prefix=".building-", dir=output))
            try:
                folder.chmod(0o755)
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)
        except OSError as error:
            raise OutputRefused(f"cannot write to {output}: {error.strerror or error}") from error
    except BaseException:
        with contextlib.suppress(OSError):  # one with something in it stays
            for path in new:  # deepest first
                path.rmdir()
        raise


def _publish(folder: Path, target: Path) -> None:
    """Rename ``folder`` to ``target``; a version that was there gives way, or stays on failure."""
    parent_is_new = not target.parent.exists()
    target.parent.mkdir(exist_ok=True)
    old = folder.with_name(f"{folder.name}-old")
    replaced = target.exists()
    try:
        if replaced:
            os.rename(target, old)
        os.rename(folder, target)
    except BaseException:
        if replaced and old.exists() and not target.exists():
            os.rename(old, target)
        if parent_is_new:
            target.parent.rmdir()
        raise
    shutil.rmtree(old, ignore_errors=True)
