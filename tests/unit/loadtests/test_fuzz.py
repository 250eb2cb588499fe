"""A short part of the fuzzing, seeded; and that it sees what it looks for."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from loadtests.fuzz import decoding, http2, rounds, rpc, verdict
from loadtests.fuzz.hostile import http_case
from loadtests.fuzz.inference import oip_case
from loadtests.fuzz.pictures import picture
from loadtests.fuzz.requests import with_picture
from loadtests.fuzz.seeds import FORMATS, SIZE, seeds
from loadtests.fuzz.target import State
from loadtests.fuzz.verdict import Case, Limits, Outcome, judged
from service.imaging.decode import decode

DECODED = 150
"""Mutations of each format through the decoder."""
LIMITS = Limits(deadline_s=1.0, grace_s=0.5)


@pytest.mark.parametrize("kind", FORMATS)
def test_what_is_mutated_is_whole(kind: str) -> None:
    for data in seeds(kind):
        assert sorted(decode(data).size) == sorted(SIZE)


@pytest.mark.parametrize("kind", FORMATS)
def test_mutated_pictures_are_decoded_or_refused(kind: str) -> None:
    labels = set()
    for index in range(DECODED):
        case = decoding.case_of(kind, 0, index)
        outcome = decoding.outcome(case)
        assert outcome.fault == "", (case.name, case.recipe)
        labels.add(outcome.label)
    assert {"200", "415", "422"} <= labels


MADE: dict[str, Callable[[int], Case]] = {
    "pictures": lambda index: with_picture("gif", 3, index),
    "http": lambda index: http_case(3, index),
    "oip": lambda index: oip_case(3, index),
    "grpc": lambda index: rpc.grpc_case(3, index),
    "http2": lambda index: http2.http2_case(3, index),
}


@pytest.mark.parametrize("name", MADE)
def test_a_number_is_always_the_same_case(name: str) -> None:
    cases = [MADE[name](index) for index in range(150)]
    assert cases == [MADE[name](index) for index in range(150)]
    assert len({case.data for case in cases}) > 75


PROBLEM: dict[str, object] = {
    "type": "about:blank",
    "title": "t",
    "status": 422,
    "detail": "d",
    "request_id": "r",
    "code": "undecodable_picture",
}
JSON = {"content-type": "application/problem+json"}


def answered(status: int, seconds: float = 0.1, **changed: Any) -> Outcome:
    body = json.dumps({**PROBLEM, "status": status, **changed}).encode()
    return judged(status, JSON, body, seconds, LIMITS)


def test_what_is_a_finding() -> None:
    assert answered(422).fault == ""
    assert judged(200, {"content-type": "application/json"}, b"{}", 0.1, LIMITS).fault == ""
    assert answered(504, 1.1, code="deadline_exceeded").fault == ""
    for outcome in (
        answered(500, code="internal"),
        answered(503, code="not_ready"),
        answered(504, 0.1, code="deadline_exceeded"),
        answered(422, 1.6),
        answered(422, code="bad_parameter"),
        answered(422, code="nothing"),
        answered(422, detail=""),
        answered(429, code="overloaded"),
        judged(422, {"content-type": "text/plain"}, b"x", 0.1, LIMITS),
        judged(422, JSON, b"x", 0.1, LIMITS),
        judged(301, {}, b"", 0.1, LIMITS),
    ):
        assert outcome.fault, outcome


def test_a_deadline_that_a_body_asks_for_may_pass() -> None:
    times = {}
    for case in map(partial(oip_case, 0), range(2000)):
        for asked in re.findall(rb'"timeout": (\d{1,15})[,}]', case.data):
            times[int(asked)] = case.options["deadline_s"]
    assert times[10_000_000] == 10
    assert min(times) < 1000
    for asked, seconds in times.items():
        assert seconds <= asked / 1e6


def test_a_finding_is_saved_and_read_again(tmp_path: Path) -> None:
    case = http_case(0, 7)
    path = case.save(tmp_path, "low", "it broke")
    assert verdict.load(path) == (case, "low")
    picture_case = decoding.case_of("png", 0, 1)
    assert verdict.load(picture_case.save(tmp_path, "decode", "it broke"))[0] == picture_case
    assert picture_case.data == picture("png", 0, 1).data


def test_the_slope_of_memory() -> None:
    states = [State((1,), 100_000_000 + 1_000_000 * index, 1, 1) for index in range(6)]
    rising = rounds.slope([10_000 * index for index in range(6)], states)
    assert rising.per_10000 == pytest.approx(1_000_000)
    assert rising.half < 1000
    assert rounds.slope([0, 1], states[:2]).half == float("inf")
