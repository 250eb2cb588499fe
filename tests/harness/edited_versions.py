"""Edits versions on disk, and signs them again where they are to stay valid."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from service.manifest import Manifest, sha256_of
from service.repository.versions_on_disk import Version, read
from tests.paths import ROOT

LENET = ROOT / "models" / "lenet5" / "1"


def network_manifest(found: Version) -> Manifest:
    """The manifest of a version that is no ensemble."""
    manifest = read(found)
    assert isinstance(manifest, Manifest)
    return manifest


def edit(folder: Path, change: Callable[[dict], object]) -> None:
    path = folder / "manifest.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def resign(folder: Path, name: str) -> None:
    """Make the manifest agree with a file that was changed."""

    def change(content: dict) -> None:
        for file in content["files"]:
            if file["path"] == name:
                file.update(bytes=(folder / name).stat().st_size, sha256=sha256_of(folder / name))

    edit(folder, change)


def garble_onnx(folder: Path) -> None:
    data = bytearray((folder / "model.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "model.onnx").write_bytes(data)
