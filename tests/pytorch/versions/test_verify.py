from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from safetensors.torch import load_file, save_file

from export.zoo import registry
from models import REPOSITORY
from service.manifest import FILE_NAME, Manifest, sha256_of
from tests.pytorch.conftest import Command, read_manifest, snapshot


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A models folder with LeNet-5 alone, to be spoilt."""
    shutil.copytree(REPOSITORY / "lenet5", tmp_path / "lenet5")
    return tmp_path


def test_the_committed_models_verify(export: Command) -> None:
    before = snapshot(REPOSITORY)
    outcome = export("verify", "lenet5", "--models", REPOSITORY)
    assert (outcome.code, outcome.err) == (0, "")
    assert "lenet5 center: passed, 36 pictures, max |dp| " in outcome.out
    assert "lenet5 batch: passed" in outcome.out
    assert snapshot(REPOSITORY) == before


def _nudge(folder: Path) -> None:
    """Change one bias of the graph by a hundredth, and the manifest's checksum with it."""
    file = folder / "model.onnx"
    model = onnx.load(file)
    (bias,) = (t for t in model.graph.initializer if t.name == "network.output.bias")
    values = numpy_helper.to_array(bias).copy()
    values[3] += np.float32(0.01)
    bias.CopyFrom(numpy_helper.from_array(values, bias.name))
    onnx.save(model, file)
    manifest = read_manifest(folder)
    files = [
        entry.model_copy(update={"sha256": sha256_of(file)}) if entry.role == "model" else entry
        for entry in manifest.files
    ]
    manifest = manifest.model_copy(update={"files": tuple(files)}).signed()
    (folder / FILE_NAME).write_text(manifest.model_dump_json(), encoding="utf-8")


def test_a_graph_that_computes_something_else_fails(export: Command, copy: Path) -> None:
    _nudge(copy / "lenet5" / "1")
    outcome = export("verify", "lenet5", "--models", copy)
    assert outcome.code == 1
    assert "lenet5 center: FAILED" in outcome.out
    assert "probabilities differ by" in outcome.error


def test_a_file_with_another_checksum_fails(export: Command, copy: Path) -> None:
    (copy / "lenet5" / "1" / "labels.csv").write_text("index,synset,label\n")
    outcome = export("verify", "lenet5", "--models", copy)
    assert outcome.code == 1
    assert "labels.csv is not the file that the manifest describes" in outcome.error


def test_other_weights_than_it_was_built_from_are_refused(export: Command, copy: Path) -> None:
    state = load_file(registry.get("lenet5").weights.locate("lenet5"))
    save_file({key: value * 2 for key, value in state.items()}, copy / "other.safetensors")
    outcome = export("verify", "lenet5", "--models", copy, "--weights", copy / "other.safetensors")
    assert outcome.code == 2
    assert "was built from python -m export train lenet5" in outcome.error


def test_what_is_not_built_cannot_be_verified(export: Command, copy: Path) -> None:
    for arguments in (["resnet50"], ["lenet5", "--version", "2"]):
        outcome = export("verify", *arguments, "--models", copy)
        assert outcome.code == 2
        assert "run python -m export build" in outcome.error


def test_a_broken_manifest_or_a_missing_file(export: Command, copy: Path) -> None:
    (copy / "lenet5" / "1" / "LICENSE").unlink()
    missing = export("verify", "lenet5", "--models", copy)
    assert (missing.code, missing.error.endswith("LICENSE is missing")) == (2, True)
    (copy / "lenet5" / "1" / FILE_NAME).write_text("{")
    broken = export("verify", "lenet5", "--models", copy)
    assert broken.code == 2
    assert "is not a valid manifest" in broken.error


def test_the_latest_version_is_verified_by_number(export: Command, copy: Path) -> None:
    for version in ("9", "10"):
        folder = copy / "lenet5" / version
        shutil.copytree(copy / "lenet5" / "1", folder)
        manifest = read_manifest(folder).model_copy(update={"version": version})
        (folder / FILE_NAME).write_text(manifest.model_dump_json(), encoding="utf-8")
    (copy / "lenet5" / "10" / "labels.csv").unlink()
    outcome = export("verify", "lenet5", "--models", copy)
    assert outcome.code == 2
    assert "10/labels.csv is missing" in outcome.error


ONE = {"top1": 0.1, "protocol": "center", "source": "hearsay"}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("input", {"rescale": 7.5}),
        ("input", {"mean": [0.5]}),
        ("resize", {"interpolation": "bicubic"}),
        ("parameters", 60_851),
        ("protocols", {"supported": [{"name": "center"}, {"name": "ten_crop"}]}),
        ("published", [ONE]),
        ("paper", {"title": "Another"}),
        ("weights", {"licence": "MIT"}),
        ("weights", {"origin": "somewhere"}),
        ("family", "resnet"),
        ("activation", "sigmoid"),
    ],
)
@pytest.mark.parametrize("signed", [False, True], ids=["edited", "forged"])
def test_a_manifest_that_says_something_else_fails(
    field: str, value: object, signed: bool, export: Command, copy: Path
) -> None:
    path = copy / "lenet5" / "1" / FILE_NAME
    facts = json.loads(path.read_text())
    facts[field] = {**facts[field], **value} if isinstance(value, dict) else value
    manifest = Manifest.model_validate(facts)
    path.write_text((manifest.signed() if signed else manifest).model_dump_json())
    outcome = export("verify", "lenet5", "--models", copy)
    assert outcome.code == 1
    assert (f"the manifest's {field}" if signed else "was edited since") in outcome.error


def test_labels_that_were_swapped_fail_though_the_checksum_is_renewed(
    export: Command, copy: Path
) -> None:
    folder = copy / "lenet5" / "1"
    file = folder / "labels.csv"
    file.write_text(
        file.read_text().replace("3,,3", "3,,x").replace("5,,5", "5,,3").replace("x", "5")
    )
    manifest = read_manifest(folder)
    files = [
        entry.model_copy(update={"sha256": sha256_of(file)}) if entry.role == "labels" else entry
        for entry in manifest.files
    ]
    manifest = manifest.model_copy(update={"files": tuple(files)}).signed()
    (folder / FILE_NAME).write_text(manifest.model_dump_json())
    outcome = export("verify", "lenet5", "--models", copy)
    assert outcome.code == 1
    assert "the manifest's labels" in outcome.error


def test_a_manifest_of_another_model_or_without_its_digest_fails(
    export: Command, copy: Path
) -> None:
    shutil.copytree(copy / "lenet5", copy / "other")
    borrowed = export("verify", "other", "--models", copy)
    assert (borrowed.code, "holds the manifest of lenet5" in borrowed.error) == (1, True)
    path = copy / "lenet5" / "1" / FILE_NAME
    facts = json.loads(path.read_text())
    path.write_text(json.dumps({**facts, "digest": None}))
    bare = export("verify", "lenet5", "--models", copy)
    assert (bare.code, "has lost what its build recorded" in bare.error) == (1, True)
    facts["build"]["preprocessing"] = "stated"
    path.write_text(Manifest.model_validate(facts).signed().model_dump_json())
    forged = export("verify", "lenet5", "--models", copy)
    assert (forged.code, "the manifest's build is" in forged.error) == (1, True)


@pytest.mark.parametrize("record", [None, {"passed": False}], ids=["removed", "failed"])
def test_a_record_of_the_proof_that_is_missing_or_bad_fails(
    record: dict[str, bool] | None, export: Command, copy: Path
) -> None:
    path = copy / "lenet5" / "1" / FILE_NAME
    facts = json.loads(path.read_text())
    facts["verification"] = record and {**facts["verification"], **record}
    path.write_text(Manifest.model_validate(facts).signed().model_dump_json())
    outcome = export("verify", "lenet5", "--models", copy)
    assert outcome.code == 1
    assert "records no proof that held" in outcome.error


def test_a_manifest_of_schema_1_verifies_too(export: Command, copy: Path) -> None:
    path = copy / "lenet5" / "1" / FILE_NAME
    facts = json.loads(path.read_text())
    old = {name: facts[name] for name in facts if name not in ("activation", "build", "digest")}
    path.write_text(json.dumps({**old, "schema_version": 1}))
    outcome = export("verify", "lenet5", "--models", copy)
    assert (outcome.code, outcome.err) == (0, "")
