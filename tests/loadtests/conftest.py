"""What load tests need of a machine: they follow processes and memory as Linux tells of them."""

from __future__ import annotations

import pytest

from tests import capabilities


@pytest.fixture(autouse=True)
def linux(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("served"):
        capabilities.demand("proc")
