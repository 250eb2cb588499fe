"""A short comparison of a checkout with itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtests.benchmarks import compare
from loadtests.harness import bench
from tests.paths import ROOT


def test_this_checkout_against_itself(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "compared.csv"
    options = ["--rounds", "2", "--seconds", "0.2", "--model", "lenet5", "--output", str(output)]
    monkeypatch.setattr("sys.argv", ["compare", str(ROOT), str(ROOT), *options])
    assert compare.main() == 0
    read = bench.read_csv(output)
    assert [(row["transport"], row["figure"]) for row in read] == [
        (transport, figure)
        for transport in ("http", "grpc")
        for figure in ("rate", "p50_ms", "p99_ms")
    ]
    for row in read:
        assert 0 < float(row["low_95"]) <= float(row["B/A"]) <= float(row["high_95"])
        assert row["commit_a"] == row["commit_b"]
    assert "round 2 of 2" in capsys.readouterr().out


def test_a_folder_whose_package_is_another_one_is_refused(tmp_path: Path) -> None:
    """What is imported there is the installed one: it would be compared with itself."""
    with pytest.raises(LookupError, match="no checkout"):
        compare.state_of(tmp_path)
