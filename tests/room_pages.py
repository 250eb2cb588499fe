"""Writes a page for each room of `service`: ``python -m tests.room_pages``.

A page holds what the room's ``__init__`` says and the first sentence of each of its files, so it
is true as long as they are.
"""

from __future__ import annotations

import ast
from pathlib import Path

from tests.architecture import SERVICE as MAY_IMPORT
from tests.paths import ROOT

FOLDER = ROOT / "docs" / "rooms"
HOUSE = ROOT / "service"


def rooms() -> list[str]:
    """The rooms that are folders, as `ls service` shows them."""
    return sorted(room for room in MAY_IMPORT if room and (HOUSE / room).is_dir())


def page(room: str) -> str:
    """The page of a room, in Markdown."""
    below = [other for other in MAY_IMPORT[room] if other in rooms()]
    above = [other for other in rooms() if room in MAY_IMPORT[other]]
    parts = [f"# service/{room}", _docstring(HOUSE / room / "__init__.py")]
    if below:
        parts.append(f"May import {_links(below)}.")
    if above:
        parts.append(f"May be imported by {_links(above)}.")
    parts += [_table(folder, folder.relative_to(HOUSE / room)) for folder in _folders(room)]
    parts.append("Written by `python -m tests.room_pages`; do not edit.")
    return "\n\n".join(parts) + "\n"


def _folders(room: str) -> list[Path]:
    inits = (HOUSE / room).rglob("__init__.py")
    return sorted(init.parent for init in inits if init.parent.name != "protos")


def _table(folder: Path, name: Path) -> str:
    files = sorted(path for path in folder.glob("*.py") if path.name != "__init__.py")
    lines = [f"| `{file.name}` | {_first(file)} |" for file in files]
    head = "" if name == Path() else f"## {name}/\n\n{_docstring(folder / '__init__.py')}\n\n"
    return head + "\n".join(["| file | what it is for |", "|---|---|", *lines])


def _links(names: list[str]) -> str:
    return ", ".join(f"[{name}]({name}.md)" for name in names)


def _first(file: Path) -> str:
    return " ".join(_docstring(file).partition("\n\n")[0].split())


def _docstring(file: Path) -> str:
    return ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""


def main() -> None:
    """Write all pages."""
    FOLDER.mkdir(exist_ok=True)
    for room in rooms():
        (FOLDER / f"{room}.md").write_text(page(room), encoding="utf-8")


if __name__ == "__main__":
    main()
