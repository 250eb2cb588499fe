"""The repository refuses what is broken, by name, and goes on serving the rest."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from service.manifest import Manifest, RefusedModelError
from service.repository import versions_on_disk
from service.repository.versions_on_disk import Version
from tests.harness.edited_versions import LENET, edit, network_manifest
from tests.paths import ROOT


@pytest.mark.parametrize("name", ["efficientnet_lite0", "lenet5"])
def test_the_embedded_models_are_whole(name: str) -> None:
    found = Version(name, "1", ROOT / "models" / name / "1")
    manifest = network_manifest(found)
    versions_on_disk.check_files(found.path, manifest)
    labels = versions_on_disk.labels(found.path, manifest)
    assert len(labels) == manifest.classes
    listed = {file.path for file in manifest.files} | {"manifest.json"}
    assert listed == {path.name for path in found.path.iterdir()}
    assert any(file.role == "licence" for file in manifest.files)
    assert Manifest.model_validate_json(manifest.model_dump_json()) == manifest


def test_every_name_is_checked_before_it_touches_the_disk(tmp_path: Path) -> None:
    shutil.copytree(LENET, tmp_path / "lenet5" / "1")
    for name in ("Lenet5", "lenet5/../x", "", "a" * 65, "lenet5.tensor"):
        edit(tmp_path / "lenet5" / "1", lambda manifest, n=name: manifest.update(name=n))  # type: ignore[misc]
        with pytest.raises(RefusedModelError, match="name"):
            versions_on_disk.read(Version("lenet5", "1", tmp_path / "lenet5" / "1"))
