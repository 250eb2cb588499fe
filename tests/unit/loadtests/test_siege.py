"""Hostile clients together: that what does not hold would show, and a short siege."""

from __future__ import annotations

import io

from PIL import Image

from loadtests.benchmarks import siege

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
