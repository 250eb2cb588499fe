"""A model is served in the precision that was asked for, or not at all."""

from __future__ import annotations

import pytest

from service.config.settings import InvalidSettingsError, load


def test_an_unknown_precision_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_PRECISION", "int4")
    with pytest.raises(InvalidSettingsError, match="ZOO_PRECISION=int4"):
        load()
