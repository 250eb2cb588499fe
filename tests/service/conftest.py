"""Models that load in the process of the tests learn their batch size in less time."""

from __future__ import annotations

import pytest

from service.engine import model


@pytest.fixture(autouse=True)
def learning(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each size runs once, not for a while: some of these tests load models a hundred times."""
    monkeypatch.setattr(model, "_CPU_SLICE_S", 0.0)
