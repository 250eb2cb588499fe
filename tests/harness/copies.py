"""Copies of the embedded models under other names, and ensembles of them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from service.manifest import EnsembleManifest, Member
from tests.paths import ROOT


def copy_of(model: str, folder: Path, name: str, version: str = "1") -> Path:
    """Copy version 1 of an embedded model into the repository ``folder``."""
    copy = folder / name / version
    shutil.copytree(ROOT / "models" / model / "1", copy)
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest.update(name=name, version=version)
    (copy / "manifest.json").write_text(json.dumps(manifest))
    return copy


def ensemble(folder: Path, name: str, *members: Member, classes: int = 1000) -> None:
    manifest = EnsembleManifest(
        kind="ensemble", name=name, version="1", description="x", classes=classes, members=members
    )
    (folder / name / "1").mkdir(parents=True)
    (folder / name / "1" / "manifest.json").write_text(manifest.model_dump_json())
