"""Networks from all over the zoo, exported for real: `make zoo`, which then verifies each."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch
from safetensors.torch import save_file

from export.weights import files, key_mapping, untrained
from export.zoo import registry
from service.manifest import sha256_of
from tests.pytorch.conftest import Command, read_manifest

pytestmark = pytest.mark.zoo


@pytest.mark.parametrize(
    "name",
    [
        "resnet50",
        "bninception",  # BGR, not scaled
        "shufflenet_v1_g3",
        "densenet121",
        "efficientnet_b0",
    ],
)
def test_builds_untrained_and_verifies(name: str, export: Command, tmp_path: Path) -> None:
    outcome = export("build", name, "--weights", "random", "--seed", 1, "--output", tmp_path)
    assert (outcome.code, outcome.err) == (0, "")
    folder = tmp_path / name / "1"
    manifest = read_manifest(folder)
    for file in manifest.files:
        assert sha256_of(folder / file.path) == file.sha256
    assert manifest.weights.source == "random"
    assert manifest.verification is not None
    assert manifest.verification.distinct_top5 >= 4
    operators = {node.op_type for node in onnx.load(folder / "model.onnx").graph.node}
    assert name == "densenet121" or "BatchNormalization" not in operators


@pytest.mark.parametrize(
    ("name", "peer"),
    [(spec.name, peer) for spec in registry.specs() for peer in spec.peers],
)
def test_checkpoints_of_another_library_are_the_same_network(
    name: str, peer: str, tmp_path: Path
) -> None:
    spec = registry.get(name)
    other = key_mapping.create(peer).eval()
    untrained.initialise(spec, other, 0)
    save_file(other.state_dict(), tmp_path / "weights.safetensors")
    ours = files.load(spec, tmp_path / "weights.safetensors").network
    assert {tensor.dtype for tensor in ours.parameters()} == {torch.float32}
    # on noise, deep networks magnify the rounding of single precision
    crops = torch.randn(1, 3, spec.input.height, spec.input.width, dtype=torch.float64)
    with torch.inference_mode():
        expected, got = other.double()(crops), ours.double()(crops)
    assert (got - expected).abs().max() <= 1e-3 * expected.std()
