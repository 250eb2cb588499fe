"""A fault is planted in a copy of the tree, and what its tests say of it is told."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mutants import __main__ as command
from tests.mutants.faults import Fault
from tests.mutants.runner import Copy, Result

CODE = """
def counted(most):
    count = 0
    while count < most:
        count += 1
    return count
"""
TESTS = """
import pytest
from code_under_test import counted

def test_two():
    assert counted(2) == 2

def test_none():
    assert counted(0) == 0

def test_red():
    assert counted(2) == 3

@pytest.mark.skip(reason="not here")
def test_skipped():
    assert counted(2) == 2
"""
LIMIT_S = 120
"""Patience with a loaded machine."""


def fault(old: str, new: str, *tests: str) -> Fault:
    names = tuple(f"test_it.py::{test}" for test in tests)
    return Fault("room", "x", "code_under_test.py", old, new, "A count is wrong.", names)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tree")
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    (folder / "code_under_test.py").write_text(CODE)
    (folder / "test_it.py").write_text(TESTS)
    (folder / ".gitignore").write_text("ignored\n")
    (folder / "ignored").touch()
    return folder


@pytest.fixture
def copy(tree: Path, tmp_path: Path) -> Iterator[Copy]:
    yield Copy(tmp_path, LIMIT_S, tree)
    assert (tree / "code_under_test.py").read_text() == CODE
    assert (tmp_path / "tree" / "code_under_test.py").read_text() == CODE
    assert not (tmp_path / "tree" / "ignored").exists()


def test_it_is_seen_or_survives(copy: Copy) -> None:
    faults = [
        fault("count = 0", "count = 1", "test_none"),
        fault("count = 0", "count = 1", "test_two"),
    ]
    assert copy.are_green(faults)
    assert [copy.tried(each, green=True).outcome for each in faults] == ["seen", "survived"]


def test_tests_that_are_red_or_skipped_see_nothing(copy: Copy) -> None:
    red = fault("count = 0", "count = 1", "test_red")
    skipped = fault("count = 0", "count = 1", "test_skipped")
    assert not copy.are_green([red, skipped])
    assert copy.tried(red, green=False).outcome == "red"
    assert copy.tried(skipped, green=True).outcome == "skipped"


def test_a_test_that_hangs_has_seen_it_and_a_run_that_hangs_has_not(
    tree: Path, tmp_path: Path
) -> None:
    copy = Copy(tmp_path, 3, tree)
    endless = fault("count += 1", "count += 0", "test_two")
    assert copy.tried(endless, green=True).outcome == "seen"
    imported = fault("def counted(", "while True: ...\ndef counted(", "test_two")
    assert copy.tried(imported, green=True).outcome == "hung"


def test_below_the_share_it_fails_and_tells_who_survived(
    capsys: pytest.CaptureFixture[str],
) -> None:
    one = fault("count = 0", "count = 1", "test_none")
    seen, survived, skipped = (Result(one, each, 1.0) for each in ("seen", "survived", "skipped"))
    assert command._reported([seen] * 19 + [survived, skipped]) == 0
    said = capsys.readouterr().out
    assert "19 of 20 seen, 95.0%" in said
    assert "1 left out" in said
    assert "survived: room/x in code_under_test.py: A count is wrong." in said
    assert command._reported([seen] * 18 + [survived]) == 1
    assert command._reported([skipped]) == 1
