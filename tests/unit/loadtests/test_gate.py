"""The load test that gates a release: Locust itself, against real servers."""

from __future__ import annotations

import re
from argparse import ArgumentParser, Namespace
from collections import Counter
from pathlib import Path

import pytest

from loadtests.gate import options, verdict
from loadtests.gate.per_second import PerSecond, Second
from loadtests.gate.ramp_times import climb_s, users_at
from tests.paths import ROOT


def test_the_page_has_every_option() -> None:
    parser = ArgumentParser(add_help=False)
    options.add_to(parser)  # type: ignore[arg-type]
    page = (ROOT / "docs" / "loadtests.md").read_text()
    for action in parser._actions:
        (name,) = action.option_strings
        assert re.search(rf"(?m)^\|.*`{name}\b", page), name


def test_percentiles_are_of_the_answers_alone() -> None:
    second = Second(Counter({10.0: 98, 500.0: 2}), failures=900)
    assert (second.answers, second.percentile(50), second.percentile(98)) == (100, 10, 10)
    assert second.percentile(99) == 500
    assert Second(Counter(), 3).percentile(99) == 0


def test_only_whole_seconds_with_all_users_are_judged() -> None:
    per_second = PerSecond()
    per_second.add(
        {100: {5.0: 1}, 101: {5.0: 10, 9.0: 10}, 102: {7.0: 20}, 103: {1.0: 9}}, {102: 10}
    )
    found = verdict.held(per_second, 100.5, 103.2)
    assert found == (2, 50, 20.0, 0.2, 7.0, 9.0)
    assert verdict.held(per_second, 100.5, 101.4) is None
    assert verdict.held(per_second, float("inf"), float("inf")) is None
    assert [second for second, _ in per_second.seconds()] == [100, 101, 102, 103]
    taken = per_second.take()
    assert per_second.take() == ({}, {})
    per_second.add(*taken)
    assert verdict.held(per_second, 100.5, 103.2) == found


@pytest.mark.parametrize(
    ("thresholds", "expected"),
    [
        ((9.0, 0.2, 20.0), []),
        ((8.9, None, None), ["p99 is 9 ms, above 8.9"]),
        ((None, 0.19, None), ["0.2 of the requests failed, above 0.19"]),
        ((None, None, 21.0), ["the rate is 20 answers/s, below 21"]),
    ],
)
def test_each_threshold(thresholds: tuple[float | None, ...], expected: list[str]) -> None:
    names = ("max_p99_ms", "max_failure_ratio", "min_rate")
    asked = Namespace(**dict(zip(names, thresholds, strict=True)))
    found = verdict.Held(2, 50, 20.0, 0.2, 7.0, 9.0)
    assert list(verdict.reasons(found, asked)) == expected
    assert verdict.has_thresholds(asked)
    nothing = verdict.Held(2, 0, 0.0, 0.0, 0.0, 0.0)
    assert "nothing was asked" in list(verdict.reasons(nothing, asked))
    assert list(verdict.reasons(None, asked)) == ["there was no whole second with all users"]


def test_users_come_in_steps() -> None:
    asked = Namespace(num_users=10, warm_up_s=5.0, steps=4, step_s=3.0, hold_s=20.0)
    seconds = (0, 4.9, 7.9, 8, 11, 13.9, 14, 33)
    assert [users_at(second, asked) for second in seconds] == [2, 2, 2, 5, 8, 8, 10, 10]
    assert climb_s(asked) == 14


@pytest.mark.parametrize("text", ["", "http=0", "htpp=1", "http=-1", "http=x", "=1"])
def test_weights_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"htt|weight|convert|names"):
        options.weights(text, options.USERS)


def test_pictures_come_from_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no picture"):
        options.pictures(str(tmp_path))
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a.JPG").write_bytes(b"a")
    (tmp_path / "notes.txt").write_bytes(b"b")
    assert options.pictures(str(tmp_path)) == [b"a"]
    assert len(options.pictures("")) == 6
