"""Files that a manifest lists: damaged, moved out of their folder, or without a proof."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtests.harness import marked
from service.manifest import Manifest, RefusedModelError
from service.repository import versions_on_disk
from service.repository.versions_on_disk import Version


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return marked.add(tmp_path, "net", 1)


def manifest_of(folder: Path) -> Manifest:
    manifest = versions_on_disk.read(Version("net", "1", folder))
    assert isinstance(manifest, Manifest)
    return manifest


def test_whole_files_pass(folder: Path) -> None:
    versions_on_disk.check_files(folder, manifest_of(folder))


def test_one_changed_byte_is_refused(folder: Path) -> None:
    path = folder / "model.onnx"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(RefusedModelError, match=r"model\.onnx has SHA-256 .*the manifest says"):
        versions_on_disk.check_files(folder, manifest_of(folder))


def test_another_size_is_refused_unread(folder: Path) -> None:
    with (folder / "model.onnx").open("ab") as file:
        file.write(b"x")
    with pytest.raises(RefusedModelError, match="bytes, the manifest says"):
        versions_on_disk.check_files(folder, manifest_of(folder))


def test_a_link_to_elsewhere_is_refused(folder: Path, tmp_path: Path) -> None:
    path = folder / "model.onnx"
    path.rename(tmp_path / "model.onnx")
    path.symlink_to(tmp_path / "model.onnx")
    with pytest.raises(RefusedModelError, match=r"model\.onnx lies outside of its folder"):
        versions_on_disk.check_files(folder, manifest_of(folder))


def test_a_link_within_the_folder_is_none_to_elsewhere(folder: Path) -> None:
    path = folder / "model.onnx"
    path.rename(folder / "weights")
    path.symlink_to("weights")
    versions_on_disk.check_files(folder, manifest_of(folder))


def test_a_proof_that_failed_is_refused_and_none_is_not(folder: Path) -> None:
    manifest = manifest_of(folder)
    proof = manifest.verification
    assert proof is not None
    failed = manifest.model_copy(
        update={"verification": proof.model_copy(update={"passed": False})}
    )
    with pytest.raises(RefusedModelError, match="its proof of equality with the network failed"):
        versions_on_disk.check_files(folder, failed)
    versions_on_disk.check_files(folder, manifest.model_copy(update={"verification": None}))
