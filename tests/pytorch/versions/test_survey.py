from __future__ import annotations

import csv
from pathlib import Path

import pytest

from export.errors import ExportError
from export.versions import survey
from tests.paths import ROOT
from tests.pytorch.conftest import Command

ONE = "test_vit"


def test_a_survey_proves_goes_on_and_says_why_not(tmp_path: Path) -> None:
    file = tmp_path / "survey.csv"
    (row,) = survey.survey("timm", file=file, only=[ONE])
    assert (row.name, row.passed, row.failure) == (f"timm:{ONE}", True, "")
    assert (row.family, row.release.startswith("timm ")) == ("vision_transformer", True)
    assert row.distinct_top5 is not None
    assert row.distinct_top5 >= 4
    written = file.stat().st_mtime_ns
    # it goes on with the rest; nothing is done twice, and what fails has its reason
    short = survey.Limits(seconds=1)
    rows = survey.survey("timm", file=file, only=[ONE, "test_resnet"], limits=short)
    assert [each.passed for each in rows] == [True, False]
    assert (rows[0].name, rows[0].seconds) == (row.name, row.seconds)
    assert rows[1].failure == "not done in 1 s"
    assert file.stat().st_mtime_ns > written
    assert [(r.name, r.passed, r.failure) for r in survey.read(file)] == [
        (r.name, r.passed, r.failure) for r in rows
    ]
    assert survey.summary(rows).endswith("1 of 2 networks proved (50.0%), of 2 families")


def test_small_networks_of_every_family_come_first() -> None:
    names = [
        f"timm:{name}" for name in ("resnet152", "resnet18", "vgg19", "vgg11", "convnext_nano")
    ]
    order = survey.in_turn(names)
    assert set(order[:3]) == {"timm:resnet18", "timm:vgg11", "timm:convnext_nano"}
    assert set(order) == set(names)


def test_a_network_that_cannot_be_built_is_a_row(tmp_path: Path) -> None:
    # its input is no square
    (row,) = survey.survey("timm", file=tmp_path / "s.csv", only=["vit_base_patch16_sapiens2"])
    assert not row.passed
    assert "only RGB squares are served" in row.failure


def test_what_is_no_table_of_a_survey_is_refused(tmp_path: Path, export: Command) -> None:
    for text in ("a,b\n1,2\n", "name\n" * 3):
        (tmp_path / "s.csv").write_text(text)
        with pytest.raises(ExportError, match="holds no rows of a survey"):
            survey.read(tmp_path / "s.csv")
    missing = export("survey", "--library", "timm", "--csv", tmp_path / "none.csv", "--summary")
    assert (missing.code, "holds no rows" in missing.error) == (2, True)
    unknown = export("survey", "--library", "timm", "--csv", tmp_path / "x.csv", "--only", "zzz")
    assert (unknown.code, "has no network called zzz" in unknown.error) == (2, True)


def test_list_names_the_networks_of_a_library(export: Command) -> None:
    found = export("list", "resnet1??", "--library", "torchvision")
    assert found.out.split() == ["torchvision:resnet101", "torchvision:resnet152"]
    as_json = export("list", "test_vi*", "--library", "timm", "--json")
    assert '"family": "vision_transformer"' in as_json.out
    assert export("list", "zzz", "--library", "timm").code == 2
    assert export("list", "resnet*").code == 2


@pytest.mark.parametrize("library", ["timm"])
def test_the_committed_survey_can_go_on(library: str) -> None:
    file = ROOT / "docs" / f"survey_{library}.csv"
    with file.open(encoding="utf-8", newline="") as stream:
        assert csv.DictReader(stream).fieldnames
    rows = survey.read(file)
    assert len({row.name for row in rows}) == len(rows)
    assert all(row.passed != bool(row.failure) for row in rows)
