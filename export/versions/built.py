"""What is built: the versions in a models folder, and their manifests."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from export.errors import NotBuilt
from service.manifest import FILE_NAME, Manifest


def versions(models: Path, name: str) -> list[str]:
    """The versions of a model that have a manifest, oldest first."""
    found = (path.parent.name for path in models.glob(f"{name}/*/{FILE_NAME}"))
    return sorted((version for version in found if version.isdigit()), key=int)


def read_manifest(models: Path, name: str, version: str | None) -> Manifest:
    """The manifest of one version, or of the latest. Raises NotBuilt."""
    known = versions(models, name)
    if not known or (version is not None and version not in known):
        which = name if version is None else f"{name} version {version}"
        raise NotBuilt(f"{models} has no {which}: run python -m export build {name}")
    file = models / name / (version or known[-1]) / FILE_NAME
    try:
        return Manifest.model_validate_json(file.read_text(encoding="utf-8"))
    except (OSError, ValidationError) as error:
        raise NotBuilt(f"{file} is not a valid manifest: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
