"""`export ensemble`: refuses what cannot be, writes what the service serves."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from export.errors import ExportError
from export.versions import ensemble
from service.manifest import EnsembleManifest, Member
from tests.harness.edited_versions import edit, resign
from tests.paths import ROOT
from tests.photographs import COFFEE
from tests.pytorch.conftest import Command
from tests.server import serving


@pytest.fixture
def models(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    for name in ("efficientnet_lite0", "lenet5"):
        shutil.copytree(ROOT / "models" / name, folder / name)
    shutil.copytree(folder / "lenet5" / "1", folder / "lenet5" / "3")
    edit(folder / "lenet5" / "3", lambda manifest: manifest.update(version="3"))
    return folder


@pytest.mark.parametrize(
    ("text", "member"),
    [
        ("lenet5", Member(model="lenet5")),
        ("lenet5@3", Member(model="lenet5", version="3")),
        ("lenet5:center", Member(model="lenet5", protocol="center")),
        (
            "lenet5@12:ten_crop:0.5",
            Member(model="lenet5", version="12", protocol="ten_crop", weight=0.5),
        ),
    ],
)
def test_members_as_they_are_written(text: str, member: Member) -> None:
    assert ensemble.parse_member(text) == member


@pytest.mark.parametrize(
    "text",
    ["", "@1", "a@", "a:", "a@x", "a@0", "a:centre", "a:center:0", "a:center:-1", "a:center:nan",
     "a:center:inf", "a:center:x", "A", "../a", "a@1:center:1:2", "a:center@1"],
)  # fmt: skip
def test_members_that_are_none(text: str) -> None:
    with pytest.raises(ExportError):
        ensemble.parse_member(text)


def test_a_built_ensemble_is_served(export: Command, models: Path, tmp_path: Path) -> None:
    members = ["--member", "lenet5@1:center:2", "--member", "lenet5"]
    done = export("ensemble", "digits", *members, "--models", models)
    assert (done.code, done.err) == (0, "")
    settings: dict[str, Any] = {"zoo_models": models, "zoo_default_model": "digits"}
    with serving(tmp_path, **settings) as server:
        one = server.client.get("/models/digits").json()
        assert [(m["version"], m["weight"]) for m in one["members"]] == [("1", 2.0), ("3", 1.0)]
        together = server.classify(COFFEE).json()
        assert together["protocol"] == "ensemble"
        alone = server.classify(COFFEE, model="lenet5").json()
        assert together["predictions"][0] == pytest.approx(alone["predictions"][0])


REFUSED = {
    "no member is there": (["x", "--member", "vgg99", "--member", "lenet5"], "vgg99"),
    "no such version": (["x", "--member", "lenet5@2", "--member", "lenet5"], "version 2"),
    "no such protocol": (["x", "--member", "lenet5:ten_crop", "--member", "lenet5"], "cannot do"),
    "other labels": (["x", "--member", "lenet5", "--member", "efficientnet_lite0"], "labels"),
    "too few": (["x", "--member", "lenet5"], "members"),
    "bad name": (["X", "--member", "lenet5", "--member", "lenet5"], "name"),
    "taken": (["lenet5", "--member", "lenet5", "--member", "lenet5"], "already there"),
    "no recipe": (["x"], "no recipe"),
    "recipe without members": (["googlenet_7_nets"], "googlenet_2014"),
    "bad version": (["x", "--member", "lenet5", "--member", "lenet5", "--version", "0"], "version"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_refusals_are_one_line_and_change_nothing(export: Command, models: Path, kind: str) -> None:
    arguments, words = REFUSED[kind]
    before = {path: path.read_bytes() for path in models.rglob("*") if path.is_file()}
    done = export("ensemble", *arguments, "--models", models)
    assert done.code == 2
    assert words in done.error
    assert before == {path: path.read_bytes() for path in models.rglob("*") if path.is_file()}


def test_members_of_as_many_other_labels_are_refused(models: Path) -> None:
    labels = models / "lenet5" / "3" / "labels.csv"
    other = labels.read_text().replace(",3\n", ",three\n")
    assert other != labels.read_text()
    labels.write_text(other)
    resign(models / "lenet5" / "3", "labels.csv")
    members = [Member(model="lenet5", version="1"), Member(model="lenet5", version="3")]
    with pytest.raises(ExportError, match="the labels of lenet5 are not those of lenet5"):
        ensemble.build("x", members, models=models)
    assert not (models / "x").exists()


def test_a_corrupt_member_is_refused(export: Command, models: Path) -> None:
    (models / "lenet5" / "3" / "labels.csv").write_text("index,synset,label\n")
    members = ["--member", "lenet5", "--member", "lenet5@1"]
    done = export("ensemble", "x", *members, "--models", models)
    assert done.code == 2
    assert "labels.csv" in done.error


def test_every_recipe_is_whole(export: Command) -> None:
    listed = export("ensemble").out.splitlines()
    assert len(listed) == len(ensemble.recipes()) == 16
    for name in ensemble.recipes():
        content = ensemble.recipe(name)
        common = {"kind": "ensemble", "name": name, "version": "1", "classes": 1000}
        EnsembleManifest.model_validate({**content, **common})
