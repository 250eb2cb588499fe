"""The real server, started by the Python of its own environment, for clients that have another.

`make test` sets ZOO_TEST_PYTHON; without it these tests are not collected (tests/conftest.py).
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server import ROOT, Server, serving

PYTHON = os.environ.get("ZOO_TEST_PYTHON", "")


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("server"), python=PYTHON) as running:
        yield running


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the pictures are."""
    path = tmp_path_factory.mktemp("pictures")
    subprocess.run([PYTHON, "-m", "tests.clients.pictures", str(path)], cwd=ROOT, check=True)
    return path


@pytest.fixture(scope="session")
def pictures(folder: Path) -> dict[str, bytes]:
    """Encoded pictures by name, as tests.clients.pictures writes them."""
    return {path.stem: path.read_bytes() for path in folder.iterdir()}
