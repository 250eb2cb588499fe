from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from export.data import pictures
from export.proof.parity import Exported
from export.zoo import registry
from models import REPOSITORY
from service.manifest import FILE_NAME, Manifest, sha256_of
from tests.pytorch.conftest import Command, open_model, read_manifest, snapshot

SHORTLY = """\
import runpy
from export.proof import proof
proof.WORK = 7_000_000_000
runpy.run_module("export", run_name="__main__", alter_sys=True)
"""
"""The command, with all pictures for the centre crops and two for the ten crops of each."""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder with EfficientNet-Lite0, built as the README says: by the command."""
    models = tmp_path_factory.mktemp("models")
    result = subprocess.run(
        [sys.executable, "-c", SHORTLY, "build", "efficientnet_lite0", "--output", models],
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert "comparing 16 pictures, protocol center" in result.stdout
    assert "comparing 2 pictures, protocol ten_crop" in result.stdout
    assert f"built {models / 'efficientnet_lite0' / '1'}" in result.stdout
    return models


def test_answers_are_those_of_the_committed_model(built: Path, lite0: Exported) -> None:
    exported = open_model(built / "efficientnet_lite0" / "1")
    for picture in pictures.photographs().values():
        for ours, committed in zip(
            exported.answer(picture, "center"), lite0.answer(picture, "center"), strict=True
        ):
            assert np.abs(ours - committed).max() <= 1e-6 * max(1, np.abs(committed).max())


def test_the_manifest_is_the_committed_one_but_for_the_proof(built: Path) -> None:
    def constant(manifest: Manifest) -> dict[str, object]:
        facts = manifest.model_dump(exclude={"verification", "digest"})
        # the bytes of the graph, and the figures, may change with the versions of the libraries
        facts["files"] = [file for file in facts["files"] if file["role"] != "model"]
        return facts

    ours = read_manifest(built / "efficientnet_lite0" / "1")
    committed = read_manifest(REPOSITORY / "efficientnet_lite0" / "1")
    assert constant(ours) == constant(committed)
    for manifest in (ours, committed):
        assert manifest.verification is not None
        assert manifest.verification.passed
        assert manifest.verification.max_abs_probability_difference <= 1e-4
        assert manifest.verification.max_logit_difference_in_std <= 1e-3
        assert manifest.verification.top5_agreement == 1
    assert ours.verification is not None
    assert (ours.verification.distinct_top5, ours.verification.pictures) == (2, 2)
    assert committed.verification is not None
    assert committed.verification.distinct_top5 >= 10
    assert committed.verification.pictures == 16


@pytest.mark.parametrize("name", ["efficientnet_lite0", "lenet5"])
def test_every_file_is_listed_with_its_checksum(name: str, built: Path) -> None:
    folder = (built if (built / name).exists() else REPOSITORY) / name / "1"
    manifest = read_manifest(folder)
    listed = {file.path for file in manifest.files}
    assert listed == {path.name for path in folder.iterdir()} - {FILE_NAME}
    for file in manifest.files:
        assert (folder / file.path).stat().st_size == file.bytes
        assert sha256_of(folder / file.path) == file.sha256
    assert manifest.file("model", "fp32").opset == 20


def test_the_licence_travels_with_the_weights(built: Path) -> None:
    folder = built / "efficientnet_lite0" / "1"
    text = (folder / "LICENSE").read_text("utf-8")
    assert "Copyright (c) 2020, ML Illustrated" in text
    assert "TERMS AND CONDITIONS FOR USE, REPRODUCTION, AND DISTRIBUTION" in text
    assert "Google" in (folder / "NOTICE").read_text("utf-8")
    assert "CC BY 4.0" in (REPOSITORY / "lenet5" / "1" / "NOTICE").read_text("utf-8")


def test_nothing_else_is_left_in_the_folder(built: Path) -> None:
    assert [path.name for path in built.iterdir()] == ["efficientnet_lite0"]
    folder = built / "efficientnet_lite0" / "1"
    assert folder.stat().st_mode & 0o777 == 0o755
    assert all(path.stat().st_mode & 0o044 == 0o044 for path in folder.iterdir())


@pytest.mark.usefixtures("traced_once")
def test_an_existing_version_is_replaced_only_by_force(export: Command, tmp_path: Path) -> None:
    shutil.copytree(REPOSITORY / "lenet5", tmp_path / "lenet5")
    stray = tmp_path / "lenet5" / "1" / "stray"
    stray.touch()
    before = snapshot(tmp_path)
    refused = export("build", "lenet5", "--output", tmp_path)
    assert (refused.code, snapshot(tmp_path)) == (2, before)
    assert "--force" in refused.error
    assert export("build", "lenet5", "--output", tmp_path, "--version", 2).code == 0
    assert export("build", "lenet5", "--output", tmp_path, "--force").code == 0
    assert not stray.exists()
    assert sorted(path.name for path in (tmp_path / "lenet5").iterdir()) == ["1", "2"]
    assert [path.name for path in tmp_path.iterdir()] == ["lenet5"]
    first, second = (
        (tmp_path / "lenet5" / version / "model.onnx").read_bytes() for version in "12"
    )
    assert first == second


@pytest.mark.usefixtures("traced_once")
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_weights_from_a_file(
    suffix: str, export: Command, lenet5: Exported, tmp_path: Path
) -> None:
    spec = registry.get("lenet5")
    state = load_file(spec.weights.locate("lenet5"))
    file = tmp_path / f"mine{suffix}"
    (torch.save if suffix == ".pth" else save_file)(state, file)
    outcome = export("build", "lenet5", "--weights", file, "--output", tmp_path / "new" / "models")
    assert (outcome.code, outcome.err) == (0, "")
    folder = tmp_path / "new" / "models" / "lenet5" / "1"
    exported = open_model(folder)
    source = exported.manifest.weights
    assert (source.source, source.origin) == ("checkpoint", file.name)
    assert source.sha256 == sha256_of(file)
    assert file.name in (folder / "LICENSE").read_text("utf-8")
    for picture in pictures.digit_pictures().values():
        ours, committed = (model.answer(picture, "center")[0] for model in (exported, lenet5))
        assert np.abs(ours - committed).max() <= 1e-6


def test_a_network_that_ignores_its_input_is_not_built(export: Command, tmp_path: Path) -> None:
    state = load_file(registry.get("lenet5").weights.locate("lenet5"))
    state["output.weight"] = torch.zeros_like(state["output.weight"])
    save_file(state, tmp_path / "constant.safetensors")
    before = snapshot(tmp_path)
    outcome = export(
        "build", "lenet5", "--weights", tmp_path / "constant.safetensors", "--output", tmp_path
    )
    assert outcome.code == 1
    assert "hardly differ between pictures" in outcome.error
    assert snapshot(tmp_path) == before


def test_nan_in_the_weights_is_not_built(export: Command, tmp_path: Path) -> None:
    state = load_file(registry.get("lenet5").weights.locate("lenet5"))
    state["f6.bias"][0] = torch.nan
    save_file(state, tmp_path / "nan.safetensors")
    outcome = export(
        "build", "lenet5", "--weights", tmp_path / "nan.safetensors", "--output", tmp_path / "new"
    )
    assert outcome.code == 1
    assert "the proof of lenet5 failed" in outcome.error
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "output", ["file", "file/below", "/proc/no/such/place"], ids=["file", "below a file", "proc"]
)
def test_a_folder_that_cannot_be_written(output: str, export: Command, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    before = snapshot(tmp_path)
    outcome = export("build", "lenet5", "--output", tmp_path / output)
    assert outcome.code == 2
    assert "cannot write to" in outcome.error
    assert snapshot(tmp_path) == before


@pytest.mark.usefixtures("traced_once")
@pytest.mark.parametrize("blocked", ["lenet5", "lenet5/1"])
def test_a_file_in_the_place_of_a_folder(blocked: str, export: Command, tmp_path: Path) -> None:
    (tmp_path / blocked).parent.mkdir(exist_ok=True)
    (tmp_path / blocked).write_text("in the way")
    before = snapshot(tmp_path)
    outcome = export("build", "lenet5", "--output", tmp_path, "--force")
    assert outcome.code == 2
    assert outcome.error
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("version", ["0", "01", "-1", "latest", "1.5", "1234567890"])
def test_versions_are_whole_numbers(version: str, export: Command, tmp_path: Path) -> None:
    outcome = export("build", "lenet5", "--output", tmp_path, f"--version={version}")
    assert (outcome.code, snapshot(tmp_path)) == (2, {})
    assert "version" in outcome.error


def test_an_unknown_name(export: Command, tmp_path: Path) -> None:
    outcome = export("build", "lenet", "--output", tmp_path)
    assert (outcome.code, snapshot(tmp_path)) == (2, {})
    assert outcome.error.startswith("unknown model 'lenet': did you mean lenet5")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_build_that_is_stopped_leaves_nothing_behind(
    number: signal.Signals, tmp_path: Path
) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "export", "build", "lenet5", "--output", tmp_path / "models"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # a shell's background jobs ignore Ctrl-C, and so would what they start
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for line in process.stdout:
            if "tracing the network" in line:
                break
        assert list((tmp_path / "models").iterdir())  # it is at work in there
        process.send_signal(number)
        assert process.wait(30) != 0
        assert "Traceback" not in process.stderr.read()
    assert snapshot(tmp_path) == {}
