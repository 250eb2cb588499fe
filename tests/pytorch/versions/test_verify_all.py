from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest

from export.errors import ExportError
from export.versions import verify_all, verify_one
from export.versions.verify_all import Row
from export.zoo import registry
from models import REPOSITORY
from tests.pytorch.conftest import Command, snapshot


def test_what_is_not_built_is_built_for_the_occasion_and_the_others_go_on(
    export: Command, tmp_path: Path
) -> None:
    models, table = tmp_path / "models", tmp_path / "results" / "zoo.csv"
    shutil.copytree(REPOSITORY / "efficientnet_lite0", models / "efficientnet_lite0")
    (models / "efficientnet_lite0" / "1" / "labels.csv").write_text("index,synset,label\n")
    before = snapshot(models)
    outcome = export(
        *("verify", "--all", "--models", models, "--csv", table),
        *("--only", "lenet*", "--only", "efficientnet_lite0"),
    )
    assert outcome.code == 1
    assert "lenet5: passed, trained weights" in outcome.out
    assert "efficientnet_lite0: FAILED, exit 1: error:" in outcome.out
    assert "1 of 2 networks proved" in outcome.out
    rows = {row["name"]: row for row in csv.DictReader(table.open(encoding="utf-8"))}
    assert rows.keys() == {"efficientnet_lite0", "lenet5"}
    assert rows["efficientnet_lite0"]["passed"] == "no"
    _is_lenet5(rows["lenet5"])
    assert snapshot(models) == before


def test_what_is_built_is_verified(export: Command, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    verify_one.main("lenet5", REPOSITORY, scratch)
    assert [path.name for path in scratch.iterdir()] == ["row.json"]  # nothing was built
    found = Row(**json.loads((scratch / "row.json").read_text("utf-8")))
    verify_all.write([found], tmp_path / "zoo.csv")
    (row,) = csv.DictReader((tmp_path / "zoo.csv").open(encoding="utf-8"))
    _is_lenet5(row)


def _is_lenet5(row: dict[str, str]) -> None:
    assert (row["name"], row["weights"], row["passed"]) == ("lenet5", "trained", "yes")
    assert (row["parameters"], row["pictures"], row["top5_agreement"]) == ("60850", "36", "1")
    assert float(row["max_probability_difference"]) < 1e-4


def test_all_that_pass_are_no_failure(export: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = registry.get("lenet5")
    passed = Row(spec.name, spec.network, "trained", spec.parameters, passed=True)
    monkeypatch.setattr(verify_all, "prove_apart", lambda *_: passed)
    outcome = export("verify", "--all", "--only", "lenet5")
    assert (outcome.code, outcome.err) == (0, "")
    assert "1 of 1 networks proved" in outcome.out


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
    with pytest.raises(ExportError, match="cannot write"):
        verify_all.write([], tmp_path / "file" / "below.csv")


def test_a_failure_has_no_figures(tmp_path: Path) -> None:
    spec = registry.get("lenet5")
    failed = Row(spec.name, spec.network, "", spec.parameters, failure="exit -9:")
    verify_all.write([failed], tmp_path / "zoo.csv")
    (row,) = csv.DictReader((tmp_path / "zoo.csv").open(encoding="utf-8"))
    assert (row["passed"], row["failure"]) == ("no", "exit -9:")
    assert row["max_probability_difference"] == ""
