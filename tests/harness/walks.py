"""CONTRIBUTING.md followed to the letter: its blocks are applied to a copy, its commands run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.paths import ROOT

_BLOCK = re.compile(r"^```(?P<language>\w*)(?: (?P<path>\S+))?\n(?P<text>.*?)^```$", re.M | re.S)


@dataclass(frozen=True)
class Walk:
    """One section of the page in a copy of the repository."""

    folder: Path
    commands: tuple[str, ...]
    """What it has one run, as it is written."""

    def run(self, command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the page; ``python`` is that of the tests."""
        program, *arguments = command.split()
        assert program == "python", command
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(self.folder), "COLUMNS": "300", **environment},
            capture_output=True,
            text=True,
            timeout=600,
        )

    def changed(self) -> set[str]:
        """The files that differ from the repository's."""
        return {
            str(path.relative_to(self.folder))
            for path in self.folder.rglob("*")
            if path.is_file() and "__pycache__" not in path.parts and _differs(path, self.folder)
        }


def walk(heading: str, folder: Path) -> Walk:
    """Follow the section of this heading in a copy of the repository in ``folder``."""
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    section = page.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    assert section, f"CONTRIBUTING.md has no section {heading!r}"
    tracked = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, tracked.stdout.split("\0")):
        if name.startswith(("service/", "export/", "models/", "docs/")) and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
    commands: list[str] = []
    for block in _BLOCK.finditer(section):
        if block["path"] is None:
            commands += block["text"].splitlines()
        elif block["language"] == "diff":
            _patch(folder / block["path"], block["text"])
        else:
            assert not (folder / block["path"]).exists()
            (folder / block["path"]).write_text(block["text"], encoding="utf-8")
    return Walk(folder, tuple(commands))


def _patch(file: Path, difference: str) -> None:
    """Apply lines that begin with a space, + or -; what is there before occurs once."""
    lines = difference.splitlines(keepends=True)
    before = "".join(line[1:] for line in lines if line[0] in " -")
    after = "".join(line[1:] for line in lines if line[0] in " +")
    text = file.read_text(encoding="utf-8")
    assert text.count(before) == 1, f"{file.name} has not once what CONTRIBUTING.md says it has"
    file.write_text(text.replace(before, after), encoding="utf-8")


def _differs(path: Path, folder: Path) -> bool:
    original = ROOT / path.relative_to(folder)
    return not original.is_file() or original.read_bytes() != path.read_bytes()
