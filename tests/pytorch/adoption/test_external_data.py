"""Networks too large for one protobuf: their weights lie beside the graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from export.graph import graph
from export.proof.parity import Exported
from models import REPOSITORY
from tests.pytorch.conftest import Command, read_manifest, snapshot


@pytest.fixture
def small_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph, "MAX_INLINE_BYTES", 100_000)


@pytest.mark.usefixtures("small_limit", "traced_once")
def test_the_weights_are_one_listed_file(export: Command, lenet5: Exported, tmp_path: Path) -> None:
    assert export("build", "lenet5", "--output", tmp_path).code == 0
    folder = tmp_path / "lenet5" / "1"
    manifest = read_manifest(folder)
    data = manifest.file("external_data")
    assert data.path == graph.EXTERNAL_DATA
    assert data.bytes == (folder / data.path).stat().st_size > 200_000
    assert (folder / "model.onnx").stat().st_size < 100_000
    exported = Exported(folder / "model.onnx", manifest)
    crops = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 1), dtype=np.uint8)
    assert np.array_equal(exported.run(crops)[1], lenet5.run(crops)[1])
    assert export("verify", "lenet5", "--models", tmp_path).code == 0
    (folder / data.path).write_bytes(b"")
    before = snapshot(tmp_path)
    outcome = export("verify", "lenet5", "--models", tmp_path)
    assert (outcome.code, snapshot(tmp_path)) == (1, before)
    assert f"{data.path} is not the file" in outcome.error


def test_small_networks_are_one_file() -> None:
    for name in ("lenet5", "efficientnet_lite0"):
        roles = {file.role for file in read_manifest(REPOSITORY / name / "1").files}
        assert "external_data" not in roles
