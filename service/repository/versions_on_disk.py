"""Finds and checks the versions in the model repository; refuses those that cannot be trusted."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from service.config.settings import version_folders
from service.manifest import (
    FILE_NAME,
    AnyManifest,
    EnsembleManifest,
    IrregularFileError,
    Label,
    Manifest,
    ModelFile,
    RefusedModelError,
    open_regular,
    sha256_of,
)

MAX_MANIFEST_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Version:
    """A version folder that was found; nothing about it has been checked yet."""

    name: str
    version: str
    path: Path


def find(folder: Path) -> list[Version]:
    """Return every folder ``<name>/<version>/`` with a numeric version, by name and version.

    Other folders (names that start with a dot or underscore, for example) are not models.
    """
    versions = [
        Version(model.name, version.name, version)
        for model in folder.iterdir()
        for version in version_folders(model)
    ]
    return sorted(versions, key=lambda found: (found.name, int(found.version)))


_ANY: TypeAdapter[Manifest | EnsembleManifest] = TypeAdapter(AnyManifest)


def read(found: Version) -> Manifest | EnsembleManifest:
    """Return the manifest of a version. Raises RefusedModelError when it is missing or invalid."""
    path = found.path / FILE_NAME
    try:
        with open_regular(path) as stream:
            text = stream.read(MAX_MANIFEST_BYTES + 1)
        if len(text) > MAX_MANIFEST_BYTES:
            raise RefusedModelError(f"{FILE_NAME} is larger than {MAX_MANIFEST_BYTES} bytes")
        manifest = _ANY.validate_json(text)
    except OSError as error:
        raise RefusedModelError(f"{FILE_NAME} cannot be read: {error.strerror}") from error
    except ValidationError as invalid:
        raise RefusedModelError(f"{FILE_NAME} is not valid: {_first(invalid)}") from invalid
    if (manifest.name, manifest.version) != (found.name, found.version):
        raise RefusedModelError(
            f"{FILE_NAME} is that of {manifest.name} version {manifest.version}, "
            f"the folder is {found.name}/{found.version}"
        )
    return manifest


def check_files(folder: Path, manifest: Manifest) -> None:
    """Check the proof and every file that a manifest lists.

    Raises RefusedModelError when the proof failed, or a file is missing, lies outside of
    ``folder``, or differs in size or SHA-256; OSError when a file cannot be read now.
    """
    if manifest.verification is not None and not manifest.verification.passed:
        raise RefusedModelError("its proof of equality with the network failed")
    for file in manifest.files:
        _check(folder, file)


def labels(folder: Path, manifest: Manifest) -> list[Label]:
    """Return the labels of a version, one per class, in the order of the network's outputs.

    Raises RefusedModelError when the CSV (index,synset,label) does not name each class once.
    """
    try:
        with (folder / manifest.labels).open(encoding="utf-8", newline="") as stream:
            # one row more than there are classes is enough to tell that there are too many
            rows = list(islice(csv.DictReader(stream, strict=True), manifest.classes + 1))
        names = [Label(row["synset"] or None, row["label"]) for row in rows]
        indices = [int(row["index"]) for row in rows]
    except (ValueError, KeyError, TypeError, csv.Error) as error:
        raise RefusedModelError(f"{manifest.labels} cannot be read: {error!r}") from error
    # lengths first: `classes` may be any number, and a range of it as long as memory allows
    if len(rows) != manifest.classes or indices != list(range(len(rows))):
        raise RefusedModelError(
            f"{manifest.labels} does not list the indices 0 to {manifest.classes - 1} in order"
        )
    if len({label.name for label in names}) != len(names) or not all(n.name for n in names):
        raise RefusedModelError(f"{manifest.labels} has an empty or a repeated label")
    return names


def _check(folder: Path, file: ModelFile) -> None:
    path = folder / file.path
    try:
        if path.resolve().parent != folder.resolve():
            raise RefusedModelError(f"{file.path} lies outside of its folder")
        size = path.stat().st_size
        if size != file.bytes:
            raise RefusedModelError(f"{file.path} has {size} bytes, the manifest says {file.bytes}")
        digest = sha256_of(path)
    except (FileNotFoundError, IrregularFileError) as error:
        raise RefusedModelError(f"{file.path} cannot be read: {error.strerror}") from error
    if digest != file.sha256:
        raise RefusedModelError(
            f"{file.path} has SHA-256 {digest[:12]}…, the manifest says {file.sha256[:12]}…"
        )


def _first(invalid: ValidationError) -> str:
    error = invalid.errors()[0]
    place = ".".join(str(part) for part in error["loc"] if part not in ("network", "ensemble"))
    return f"{place}: {error['msg']}" if place else error["msg"]
