"""What is written about the zoo is what the registry says."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from export.cli import zoo_page
from export.zoo import registry
from tests.paths import ROOT


def test_the_page_of_the_zoo_is_up_to_date(tmp_path: Path) -> None:
    docs = ROOT / "docs"
    if (docs / zoo_page.VERIFICATION).exists():
        shutil.copy(docs / zoo_page.VERIFICATION, tmp_path)
    zoo_page.write(tmp_path)
    assert (docs / zoo_page.PAGE).read_text() == (tmp_path / zoo_page.PAGE).read_text()
    assert (tmp_path / zoo_page.PLOT).stat().st_size > 10_000


def test_the_readme_counts_the_networks() -> None:
    count = len(registry.specs())
    assert f"\n{count} networks, " in (ROOT / "README.md").read_text()


def test_every_link_leads_somewhere() -> None:
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            assert target.startswith("http") or (page.parent / target).exists(), (page, target)
