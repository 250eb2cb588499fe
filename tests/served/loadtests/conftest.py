"""What load tests need of a machine: they follow processes and memory as Linux tells of them."""

from __future__ import annotations

import pytest

from tests import capabilities


@pytest.fixture(autouse=True)
def linux() -> None:
    capabilities.demand("proc")
