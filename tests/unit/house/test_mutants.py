"""The list of planted faults: each entry applies, and its tests are there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.mutants.faults import Fault, problems, read, rooms

FAULT = Fault(
    room="engine",
    id="one-too-many",
    file="code.py",
    old="count > limit",
    new="count >= limit",
    notice="The last one is refused.",
    tests=("test_code.py::test_limit",),
)


def test_every_fault_applies_and_its_tests_are_there() -> None:
    faults = [fault for room in rooms() for fault in read(room)]
    assert list(problems(faults)) == []
    assert {"engine", "http", "deploy", "export"} <= {fault.room for fault in faults}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "code.py").write_text("def refused(count, limit):\n    return count > limit\n")
    (tmp_path / "test_code.py").write_text("class TestIt:\n    def test_limit(self): ...\n")
    return tmp_path


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"tests": ("test_code.py::TestIt::test_limit[1]",)}, None),
        ({"tests": ("test_code.py",)}, None),
        ({}, "there is no test test_code.py::test_limit"),
        ({"tests": ()}, "it names no tests"),
        ({"tests": ("test_other.py",)}, "there is no file test_other.py"),
        ({"file": "other.py"}, "there is no file other.py"),
        ({"old": "count < limit"}, "its old text is 0 times in code.py"),
        ({"old": "count"}, "its old text is 2 times in code.py"),
        ({"new": "count > limit"}, "it changes nothing"),
        ({"new": "count > (limit"}, "it leaves no Python"),
        ({"notice": "an id"}, "is no sentence"),
    ],
)
def test_what_is_wrong_with_an_entry_is_said(
    root: Path, change: dict[str, Any], problem: str | None
) -> None:
    given: dict[str, Any] = {"tests": ("test_code.py",)} if change else {}
    fault = replace(FAULT, **{**given, **change})
    found = list(problems([fault], root))
    assert len(found) == (problem is not None), found
    if problem is not None:
        assert found[0].startswith("engine/one-too-many: ")
        assert problem in found[0]


def test_names_are_unique(root: Path) -> None:
    fault = replace(FAULT, tests=("test_code.py",))
    assert list(problems([fault, fault], root)) == ["engine/one-too-many: there are 2 of that name"]


def test_an_entry_has_all_members_and_no_others(tmp_path: Path) -> None:
    (tmp_path / "engine.toml").write_text('[[fault]]\nid = "x"\nfle = "code.py"\n')
    with pytest.raises(ValueError, match=r"'x' has \['fle', 'id'\], not"):
        read("engine", tmp_path)
