"""A short part of the fuzzing, seeded; and that it sees what it looks for."""

from __future__ import annotations

import asyncio

import pytest

from loadtests.fuzz import decoding, rounds
from loadtests.fuzz.seeds import FORMATS
from loadtests.fuzz.target import target
from loadtests.fuzz.verdict import Counts

SERVED = 15
"""Of each family to a service."""


def test_a_service_with_low_limits_bears_a_round_of_everything() -> None:
    with target("low") as service:
        made = rounds.families(FORMATS, ("http", "oip", "grpc"))
        assert set(made) == {*FORMATS, "http", "oip", "grpc", "http2"}
        for family, make in made.items():
            counts = Counts()
            cases = (make(5, index) for index in range(SERVED))
            asyncio.run(rounds.send(service, cases, counts))
            assert counts.cases == SERVED
            assert [(case.name, fault) for case, fault in counts.faults] == [], family
        assert service.faults() == []


def test_a_process_that_dies_is_a_finding(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # 64 MB are not enough to begin with: each process dies before its first picture
    monkeypatch.setenv("ZOO_FUZZ_MEMORY_BYTES", str(64 << 20))
    counts = Counts()
    decoding.run("bmp", 0, range(1), counts)
    assert [fault for _, fault in counts.faults] == ["the process died"]
