from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest

from export import registry, verify_all
from export.verify_all import Row
from models import REPOSITORY
from tests.export.conftest import Command, snapshot


@pytest.mark.served
def test_what_is_not_built_is_built_for_the_occasion(export: Command, tmp_path: Path) -> None:
    table = tmp_path / "results" / "zoo.csv"
    arguments = ["--only", "lenet*", "--models", tmp_path / "none", "--csv", table]
    outcome = export("verify", "--all", *arguments)
    assert (outcome.code, outcome.err) == (0, "")
    assert "lenet5: passed, trained weights" in outcome.out
    assert "1 of 1 networks proved" in outcome.out
    (row,) = csv.DictReader(table.open(encoding="utf-8"))
    assert (row["name"], row["weights"], row["passed"]) == ("lenet5", "trained", "yes")
    assert (row["parameters"], row["pictures"], row["top5_agreement"]) == ("60850", "36", "1")
    assert float(row["max_probability_difference"]) < 1e-4
    assert not (tmp_path / "none").exists()


@pytest.mark.served
def test_what_is_built_is_verified_and_the_others_go_on(export: Command, tmp_path: Path) -> None:
    shutil.copytree(REPOSITORY / "lenet5", tmp_path / "lenet5")
    shutil.copytree(REPOSITORY / "efficientnet_lite0", tmp_path / "efficientnet_lite0")
    (tmp_path / "efficientnet_lite0" / "1" / "labels.csv").write_text("index,synset,label\n")
    before = snapshot(tmp_path)
    outcome = export(
        *("verify", "--all", "--models", tmp_path),
        *("--only", "lenet5", "--only", "efficientnet_lite0"),
    )
    assert outcome.code == 1
    assert "lenet5: passed, trained weights" in outcome.out
    assert "efficientnet_lite0: FAILED, exit 1: error:" in outcome.out
    assert "1 of 2 networks proved" in outcome.out
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize(
    "arguments",
    [
        ["--all", "lenet5"],
        ["--all", "--only", "nothing_like_it"],
        ["--only", "lenet5"],
        [],
    ],
    ids=["a name too", "no match", "only without all", "nothing"],
)
def test_arguments_that_make_no_sense(arguments: list[str], export: Command) -> None:
    outcome = export("verify", *arguments)
    assert outcome.code == 2
    assert outcome.error


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(verify_all.ExportError, match="cannot write"):
        verify_all.write([], tmp_path / "file" / "below.csv")


def test_a_failure_has_no_figures(tmp_path: Path) -> None:
    spec = registry.get("lenet5")
    failed = Row(spec.name, spec.network, "", spec.parameters, failure="exit -9:")
    verify_all.write([failed], tmp_path / "zoo.csv")
    (row,) = csv.DictReader((tmp_path / "zoo.csv").open(encoding="utf-8"))
    assert (row["passed"], row["failure"]) == ("no", "exit -9:")
    assert row["max_probability_difference"] == ""
