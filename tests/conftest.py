"""What several tests need: pictures, and real servers that leave nothing behind."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from service import compiled
from tests.server import Server, serving

if "PYTEST_XDIST_WORKER" in os.environ:
    # PyTorch's threads wait by spinning: two processes of them take the cores from each other
    os.environ.setdefault("OMP_NUM_THREADS", "1")

REPOSITORY = Path(__file__).resolve().parent.parent
# they run in an environment of their own: make clients
collect_ignore = [] if "ZOO_TEST_PYTHON" in os.environ else ["clients"]


@pytest.fixture(scope="session")
def machine_code() -> None:
    """Made before anything is timed, as a worker makes it before it serves."""
    compiled.kernels()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The service as `make serve` starts it, with the embedded models."""
    with serving(tmp_path_factory.mktemp("server")) as running:
        yield running
