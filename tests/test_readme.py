"""The README's table is the registry's."""

from __future__ import annotations

import re
from pathlib import Path

from export import registry

README = (Path(__file__).resolve().parent.parent / "README.md").read_text()


def test_the_table_of_the_zoo() -> None:
    rows = {}
    for line in README.splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) == 7 and cells[1].startswith("`"):
            rows[cells[1].strip("`")] = cells[2:6]
    specs = registry.specs()
    assert list(rows) == [spec.name for spec in specs]
    for spec in specs:
        network, size, parameters, errors = rows[spec.name]
        assert spec.source in network
        assert size == f"{spec.input.height}×{spec.input.width}×{spec.input.channels}"
        assert parameters == f"{spec.parameters:,}"
        if not spec.published:
            assert errors == "–"
            continue
        first = spec.published[0]
        figures = ("–" if error is None else f"{error:g}" for error in (first.top1, first.top5))
        assert errors.startswith("/".join(figures))


def test_every_link_leads_somewhere() -> None:
    root = Path(__file__).resolve().parent.parent
    for page in [root / "README.md", *(root / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            assert target.startswith("http") or (page.parent / target).exists(), (page, target)
