"""A disk that fills while the service runs: metrics have their room, and requests go on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from service.supervision import scratch
from service.telemetry import value_files


def test_without_posix_fallocate_room_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a Mac."""
    monkeypatch.delattr(os, "posix_fallocate")
    assert scratch.counters(tmp_path, 1) == tmp_path
    sizes = {path.name: path.stat().st_size for path in tmp_path.glob("*.db")}
    assert sizes == dict.fromkeys(
        (f"{kind}_0.db" for kind in value_files.KINDS), value_files.FIRST_BYTES
    )
