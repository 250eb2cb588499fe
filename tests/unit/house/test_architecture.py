"""The order of the house holds, and its drawing is that of the table."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests import drawing, room_pages
from tests.architecture import (
    MAY_IMPORT,
    PACKAGES,
    SERVICE,
    circles,
    imported,
    sources,
    violations,
)
from tests.paths import ROOT


def test_every_file_keeps_the_order() -> None:
    assert list(violations(ROOT)) == []


@pytest.mark.parametrize("package", PACKAGES)
def test_no_files_import_each_other(package: str) -> None:
    modules = sources(ROOT, package)
    assert (
        circles(
            {
                name: imported(file, modules, texts=False) & modules.keys()
                for name, file in modules.items()
            }
        )
        == []
    )


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_there_are_no_other_rooms(package: str) -> None:
    """Folders that git left, with nothing but what Python compiled, are none."""
    files = (ROOT / package).rglob("*.py")
    there = {path.relative_to(ROOT / package).parts[0].removesuffix(".py") for path in files}
    assert there == (MAY_IMPORT[package].keys() - {""}) | {"__init__"}


def test_every_folder_of_code_is_a_package() -> None:
    for package in PACKAGES:
        for file in (ROOT / package).rglob("*.py"):
            assert (file.parent / "__init__.py").is_file(), file


@pytest.fixture
def planted(tmp_path: Path) -> Path:
    """A house in order."""
    for package in PACKAGES:
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").touch()
    for name in (
        *("service/errors", "service/app", "service/transports/http/app"),
        *("service/engine/pool", "service/engine/cores"),
        *("export/spec", "export/weights/files", "export/weights/sources", "export/zoo/registry"),
        *("export/proof/proof", "export/versions/build", "export/cli/terminal"),
        *("loadtests/harness/server", "loadtests/clients/client", "loadtests/benchmarks/limit"),
        *("loadtests/peers/measure", "loadtests/plots"),
    ):
        file = tmp_path / f"{name}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("import os\n")
    return tmp_path


@pytest.mark.parametrize(
    ("file", "code"),
    [
        ("service/engine/pool.py", "import service.transports.http.app"),
        ("service/engine/pool.py", "def late():\n    from service.transports.http import app"),
        ("service/engine/pool.py", "if TYPE_CHECKING:\n    from service import app"),
        ("service/engine/pool.py", "import torch.nn"),
        ("service/engine/pool.py", "from grpc import aio"),
        ("service/errors.py", "from service.engine.pool import Pool"),
        ("service/transports/http/app.py", "import export"),
        ("export/__init__.py", "from loadtests.harness import server"),
        ("export/__init__.py", "from tests import server"),
        ("service/engine/pool.py", "import tests.server"),
        ("models/__init__.py", "import torch"),
        ("service/engine/pool.py", "import service\nservice.transports.http.app"),
        ("service/engine/pool.py", "from ..transports.http import app"),
        ("service/engine/pool.py", "import_module('service.transports.http.app')"),
        ("service/engine/pool.py", "start('service.transports.http.app:create')"),
        ("service/transports/grpc_other.py", "import grpc"),
        ("service/cellar/box.py", "import service.errors"),
        ("export/spec.py", "from export.weights.sources import licence_text"),
        ("export/weights/files.py", "from export.zoo import registry"),
        ("export/zoo/registry.py", "import_module('export.cli.terminal')"),
        ("export/proof/proof.py", "def late():\n    from export.versions.build import build"),
        ("export/cli/terminal.py", "import export\nexport.zoo.registry"),
        ("export/cellar/box.py", "import export.spec"),
        ("loadtests/harness/server.py", "import loadtests.clients.client"),
        ("loadtests/harness/server.py", "DRAWN_BY = {'limit.csv': 'loadtests.benchmarks.limit'}"),
        ("loadtests/clients/client.py", "def late():\n    from loadtests.benchmarks import limit"),
        ("loadtests/peers/measure.py", "from loadtests.benchmarks.limit import http"),
        ("loadtests/benchmarks/limit.py", "if TYPE_CHECKING:\n    from loadtests import plots"),
        ("loadtests/cellar/box.py", "import loadtests.harness.server"),
    ],
)
def test_what_breaks_it_is_seen(file: str, code: str, planted: Path) -> None:
    assert list(violations(planted)) == []
    (planted / file).parent.mkdir(exist_ok=True)
    (planted / file).write_text(code)
    assert len(list(violations(planted))) == 1


def test_circles_are_seen() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"d"}}) == [{"b", "c"}, {"d"}]


def test_the_drawing_is_that_of_the_table() -> None:
    """`python -m tests.drawing` makes it anew."""
    assert drawing.FILE.read_text(encoding="utf-8") == drawing.svg()


def test_every_room_says_in_one_sentence_what_it_is_for() -> None:
    for package, rooms in MAY_IMPORT.items():
        for name in rooms.keys() - {""}:
            said = drawing.sentence(name, package)
            assert re.fullmatch(r"(?:(?!\. ).)+\.", said), (package, name)


def test_the_table_of_decisions_names_files_that_are_there() -> None:
    text = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    table = text.partition("## Where is it decided")[2].partition("\n## ")[0]
    named = re.findall(r"`(\w+/[\w/]+\.py)`", table)
    assert len(named) > 10
    for name in named:
        assert (ROOT / "service" / name).is_file(), name


def test_the_pages_name_files_that_are_there() -> None:
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for name in re.findall(r"`(\w+/[\w/]+\.py)`", page.read_text("utf-8")):
            there = (ROOT / folder / name for folder in (".", "service", "tests"))
            assert any(path.is_file() for path in there), (page.name, name)


def test_arrows_say_what_the_table_says() -> None:
    below: dict[str, set[str]] = {room: set() for room in SERVICE}
    for room, lower in drawing.arrows():
        below[room].add(lower)
    for room in sorted(SERVICE, key=drawing.level, reverse=True):
        direct = below[room] == set(SERVICE[room])
        for lower in list(below[room]):
            below[room] |= below[lower]
        assert direct or below[room] == set(SERVICE[room]), room


def test_transports_know_the_data_plane_and_not_what_is_behind_it() -> None:
    for file in (ROOT / "service" / "transports").rglob("*.py"):
        behind = re.findall(r"plane\.(?:catalog|admission|_\w+)\b", file.read_text("utf-8"))
        assert behind == [], file


def test_every_room_has_the_page_that_its_files_make() -> None:
    """`python -m tests.room_pages` writes them anew."""
    there = {file.stem: file.read_text("utf-8") for file in room_pages.FOLDER.glob("*.md")}
    assert there == {room: room_pages.page(room) for room in room_pages.rooms()}
