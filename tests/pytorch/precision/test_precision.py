"""Less precision: added to a built version as a whole, measured, and never worse than demanded."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from PIL import Image

from export.precision import add, agreement, calibrate, crops, int8, layers, prepare, qdq
from models import REPOSITORY
from service.manifest import FILE_NAME, sha256_of
from tests.pytorch.conftest import Command, read_manifest, snapshot

needs_bf16 = pytest.mark.needs("bf16")
LITE0 = REPOSITORY / "efficientnet_lite0" / "1"


@pytest.fixture(scope="module")
def photographs() -> crops.Sources:
    return crops.sources("imagenet")


@pytest.fixture
def lenet(tmp_path: Path) -> Path:
    """A models folder with the committed LeNet-5, in single precision alone."""
    folder = tmp_path / "models" / "lenet5" / "1"
    shutil.copytree(REPOSITORY / "lenet5" / "1", folder)
    return tmp_path / "models"


@pytest.fixture(autouse=True)
def few_crops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(int8, "CALIBRATION_CROPS", 48)
    monkeypatch.setattr(add, "_TUNING_CROPS", 60)
    monkeypatch.setattr(add, "CROPS", 120)


@pytest.mark.parametrize("precision", ["int8", "fp16", pytest.param("bf16", marks=needs_bf16)])
def test_a_precision_is_added_to_a_built_version(
    precision: add.Reduced, export: Command, lenet: Path
) -> None:
    folder = lenet / "lenet5" / "1"
    before = read_manifest(folder)
    single = (folder / "model.onnx").read_bytes()
    outcome = export(
        "build", "lenet5", "--output", lenet, "--precision", precision, "--agreement", 0.9
    )
    assert (outcome.code, outcome.err) == (0, "")
    manifest = read_manifest(folder)
    assert (folder / "model.onnx").read_bytes() == single
    assert manifest.verification == before.verification
    assert manifest.model_precisions == ("fp32", precision)
    assert {file.path for file in manifest.files} == {
        path.name for path in folder.iterdir() if path.name != FILE_NAME
    }
    file = manifest.file("model", precision)
    assert sha256_of(folder / file.path) == file.sha256
    assert file.bytes < len(single)
    record = manifest.precisions[precision]
    assert record.top1_agreement >= 0.9
    assert record.crops == 120
    assert f"{record.top1_agreement:.2%} of 120 crops" in outcome.out
    assert [path.name for path in lenet.iterdir()] == ["lenet5"]
    assert record.provider == ("openvino" if precision == "bf16" else "cpu")
    if precision == "int8":
        assert export("verify", "lenet5", "--models", lenet).code == 0

    taken = snapshot(lenet)
    refused = export("build", "lenet5", "--output", lenet, "--precision", precision)
    assert (refused.code, snapshot(lenet)) == (2, taken)
    assert "--force" in refused.error
    weights = export(
        *("build", "lenet5", "--output", lenet, "--precision", precision),
        *("--weights", "random", "--seed", 1),
    )
    assert (weights.code, snapshot(lenet)) == (2, taken)


def test_what_agrees_too_little_is_kept_only_where_a_drop_is_allowed(
    export: Command, lenet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(add, "CROPS", 600)
    arguments = ("build", "lenet5", "--output", lenet, "--precision", "int8", "--agreement", 1)
    folder = lenet.parent / "noise"  # digits that nobody wrote: answers on the edge
    folder.mkdir()
    for seed in range(12):
        pixels = np.random.default_rng(seed).integers(0, 256, (9, 9, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{seed}.png")
    before = snapshot(lenet)
    refused = export(*arguments, "--calibration", folder)
    assert (refused.code, snapshot(lenet)) == (1, before)
    assert "demanded are 100.00%; --allow-drop keeps it" in refused.error
    kept = export(*arguments, "--calibration", folder, "--allow-drop")
    assert (kept.code, kept.err) == (0, "")
    record = read_manifest(lenet / "lenet5" / "1").precisions["int8"]
    assert record.top1_agreement < 1
    assert record.demanded == 0
    assert record.calibration == "9 pictures of a folder, augmented"


def test_a_calibration_folder_needs_pictures(export: Command, lenet: Path) -> None:
    before = snapshot(lenet)
    arguments = ("build", "lenet5", "--output", lenet, "--precision", "int8")
    for folder in (lenet / "none", lenet / "lenet5"):
        outcome = export(*arguments, "--calibration", folder)
        assert (outcome.code, snapshot(lenet)) == (2, before)
        assert str(folder) in outcome.error


def test_crops_are_seeded_and_the_two_sets_share_no_photograph(
    photographs: crops.Sources,
) -> None:
    size = read_manifest(LITE0).input
    first, same, other = (crops.draw(photographs.measure, size, 6, seed) for seed in (1, 1, 2))
    assert first.shape == (6, 224, 224, 3)
    assert (first == same).all()
    assert (first != other).any()
    ours = {picture.tobytes() for picture in photographs.calibration}
    assert not ours & {picture.tobytes() for picture in photographs.measure}


def test_folding_the_normalisation_changes_next_to_nothing(photographs: crops.Sources) -> None:
    model = onnx.load(LITE0 / "model.onnx")
    folded = prepare.fold_normalisation(model)
    given = crops.draw(photographs.measure, read_manifest(LITE0).input, 8, 1)
    expected, got = (
        agreement.logits(calibrate.session(graph.SerializeToString()), given)
        for graph in (model, folded)
    )
    assert agreement.noise(expected, got) < 1e-5
    assert not {"Mul", "Cast"} & {node.op_type for node in folded.graph.node}


@pytest.mark.parametrize("method", ["minmax", "percentile", "mse"])
def test_ranges_hold_zero_and_lie_within_the_extremes(
    method: calibrate.Method, photographs: crops.Sources
) -> None:
    network = layers.read(onnx.load(LITE0 / "model.onnx"))
    given = crops.draw(photographs.calibration, read_manifest(LITE0).input, 4, 1)
    names = network.tensors[:6]
    histograms = calibrate.Histograms(network.model, names, given)
    for name, (low, high) in histograms.ranges(method).items():
        least, most = histograms.extremes[name]
        assert least <= low <= 0 <= high <= most
        assert high > low


def test_a_layer_that_is_left_in_float_is_not_rounded_by_the_runtime(
    photographs: crops.Sources, tmp_path: Path
) -> None:
    # ONNX Runtime rounds the weights of a float layer between integers by itself, badly
    network = layers.read(prepare.fold_normalisation(onnx.load(LITE0 / "model.onnx")))
    given = crops.draw(photographs.calibration, read_manifest(LITE0).input, 8, 1)
    ranges = calibrate.Histograms(network.model, network.tensors, given).ranges("mse")
    for left, count in (([], 0), (["Conv_6"], 1), (["Conv_4", "Conv_6"], 2)):
        model = qdq.write(network, ranges, left_in_float=left)
        onnx.checker.check_model(model, full_check=True)
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
        ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        ran = [node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node]
        floats = sum(op in ("Conv", "FusedConv") for op in ran)
        assert (floats, ran.count("QLinearConv")) == (count, 49 - count)
