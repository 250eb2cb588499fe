"""Hostile clients together: that what does not hold would show, and a short siege."""

from __future__ import annotations

import pytest

from loadtests.benchmarks import siege


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
