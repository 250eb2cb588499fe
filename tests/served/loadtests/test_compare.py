"""A short comparison of a checkout with itself."""

from __future__ import annotations

import subprocess
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


def test_a_checkout_with_a_file_that_git_does_not_know_is_not_clean(tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        command = ["git", "-c", "user.name=a", "-c", "user.email=a@example.com", *arguments]
        done = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    code = tmp_path / "service" / "__init__.py"
    code.parent.mkdir()
    code.touch()
    (tmp_path / ".gitignore").write_text("__pycache__\nignored\n")
    assert compare.state_of(tmp_path) == "no commit"
    git("init", "-q")
    assert compare.state_of(tmp_path) == "no commit"
    git("add", ".")
    git("commit", "-qm", "all")
    commit = git("rev-parse", "--short", "HEAD")
    (tmp_path / "ignored").touch()
    assert compare.state_of(tmp_path) == commit
    new = tmp_path / "service" / "new.py"
    new.touch()
    assert compare.state_of(tmp_path) == f"{commit}-dirty"
    new.unlink()
    code.write_text("changed = True\n")
    assert compare.state_of(tmp_path) == f"{commit}-dirty"
