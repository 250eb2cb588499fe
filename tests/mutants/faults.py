"""The list of faults: one TOML file a room, whose entries replace a text by another one."""

from __future__ import annotations

import ast
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent


@dataclass(frozen=True)
class Fault:
    """A slip that somebody could make, and the tests that see it."""

    room: str
    """The name of the TOML file."""
    id: str
    file: str
    """Relative to the root of the repository."""
    old: str
    """Stands in ``file`` exactly once."""
    new: str
    notice: str
    """What a user would notice."""
    tests: tuple[str, ...]
    """Node ids of pytest, or files."""

    @property
    def name(self) -> str:
        """What the list and its runner call it."""
        return f"{self.room}/{self.id}"

    def planted(self, text: str) -> str:
        """The content of ``file`` with the fault. Raises ValueError where it does not apply."""
        found = text.count(self.old)
        if found != 1:
            raise ValueError(f"its old text is {found} times in {self.file}")
        return text.replace(self.old, self.new)


def rooms(folder: Path = HERE) -> list[str]:
    """The rooms that have a list."""
    return sorted(path.stem for path in folder.glob("*.toml"))


def read(room: str, folder: Path = HERE) -> list[Fault]:
    """The faults of one room. Raises ValueError for an entry that is not one."""
    names = {field.name for field in fields(Fault)} - {"room"}
    content = tomllib.loads((folder / f"{room}.toml").read_text("utf-8"))
    found = []
    for entry in content["fault"]:
        if entry.keys() != names:
            raise ValueError(
                f"{room}: {entry.get('id')!r} has {sorted(entry)}, not {sorted(names)}"
            )
        found.append(Fault(**{**entry, "room": room, "tests": tuple(entry["tests"])}))
    return found


def problems(faults: Iterable[Fault], root: Path = ROOT) -> Iterator[str]:
    """Why entries cannot be used: they do not apply to ``root``, or tests are not there."""
    faults = list(faults)
    for name, times in Counter(fault.name for fault in faults).items():
        if times > 1:
            yield f"{name}: there are {times} of that name"
    for fault in faults:
        for problem in _of(fault, root):
            yield f"{fault.name}: {problem}"


def _of(fault: Fault, root: Path) -> Iterator[str]:
    if not fault.notice.endswith("."):
        yield "what a user would notice is no sentence"
    if not fault.tests:
        yield "it names no tests"
    for test in fault.tests:
        file, *names = test.partition("[")[0].split("::")
        if not (root / file).is_file():
            yield f"there is no file {file}"
        elif not _has(root / file, tuple(names)):
            yield f"there is no test {test}"
    if not (root / fault.file).is_file():
        yield f"there is no file {fault.file}"
        return
    text = (root / fault.file).read_text("utf-8")
    try:
        planted = fault.planted(text)
    except ValueError as error:
        yield str(error)
        return
    if planted == text:
        yield "it changes nothing"
    if fault.file.endswith(".py"):
        try:
            ast.parse(planted)
        except SyntaxError as error:
            yield f"it leaves no Python: {error}"


def _has(file: Path, names: tuple[str, ...]) -> bool:
    """Whether a file has this class and function, or this function."""
    body = _parsed(file).body
    for name in names:
        kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
        found = [node for node in body if isinstance(node, kinds) and node.name == name]
        if not found:
            return False
        body = found[0].body
    return True


@cache
def _parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text("utf-8"))
