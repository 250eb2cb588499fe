"""Hostile clients together: that what does not hold would show, and a short siege."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from loadtests import siege

GOOD = {
    "single pictures not answered with 200": 0.0,
    "single pictures, slowest in ms": 1900.0,
    "looks at which a port was closed": 0.0,
    "memory of the workers, peak in MB": 900.0,
    "memory ceiling in MB": 1000.0,
}


def test_what_does_not_hold_is_named() -> None:
    assert siege.failures(GOOD) == []
    for name in GOOD.keys() - {"memory ceiling in MB"}:
        assert len(siege.failures({**GOOD, name: 3000.0})) == 1, name
    assert len(siege.failures({**GOOD, "memory ceiling in MB": 1.0})) == 1


def test_the_bomb_is_a_picture_of_the_largest_size() -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(buffer, "JPEG")
    bomb = siege.exif_bomb(buffer.getvalue(), 100_000)
    assert 95_000 < len(bomb) <= 100_000
    assert Image.open(io.BytesIO(bomb)).size == (64, 64)


def test_a_short_siege(monkeypatch: pytest.MonkeyPatch) -> None:
    """How fast single pictures are is the command's to judge; here that all are answered.

    Smaller messages: the client packs each, and that takes longer than what the service does.
    """
    monkeypatch.setattr(siege, "MESSAGE_BYTES", 10_000_000)
    found = siege.measure(3.0)
    found["single pictures, slowest in ms"] = 0.0
    assert siege.failures(found) == []
    assert found["Exif bombs answered"] >= 1
    assert found["rounds of five failing gRPC calls"] >= 1
    assert found["frames with a bad path"] >= 10
