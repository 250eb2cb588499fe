"""The soak: every request has an end, crossed answers and growth are seen, few are excused."""

from __future__ import annotations

import asyncio
import json

import numpy as np
import pytest

from loadtests.soak import material, record, report, trend, vandals
from loadtests.soak.ledger import KILLED, Broken, Kill, Ledger, Outcome, Refused, WrongAnswer
from loadtests.soak.material import Picture

PICTURES = 8


@pytest.fixture(autouse=True)
def less_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes a slow client three seconds takes here a part of one."""
    monkeypatch.setattr(vandals, "SLOW_SECONDS", 0.3)


@pytest.fixture(scope="module")
def pictures() -> list[Picture]:
    return material.pictures(PICTURES)


def test_only_a_kill_of_its_own_worker_excuses_a_request() -> None:
    ledger = Ledger()
    ends = []
    for port, when in ((1, 0.0), (2, 0.0), (1, -9.0)):
        with ledger.request("x") as entry:
            ledger.kills = [Kill(entry.begun + when, frozenset({1}))]
            raise Broken(port, "reset")
        ends.append((entry.outcome, entry.reason))
    assert ends == [(Outcome.EXCUSED, KILLED), (Outcome.UNEXPLAINED, ""), (Outcome.UNEXPLAINED, "")]


async def test_every_request_has_one_end() -> None:
    ledger = Ledger()
    with ledger.request("right") as entry:
        entry.right()
    with ledger.request("refused"):
        raise Refused("overloaded")
    with ledger.request("wrong"):
        raise WrongAnswer("of another")
    with ledger.request("forgotten"):
        assert ledger.open == 1

    async def asks() -> None:
        with ledger.request("cut off"):
            await asyncio.sleep(60)

    asking = asyncio.ensure_future(asks())
    await asyncio.sleep(0)
    asking.cancel()
    await asyncio.wait([asking])
    assert (ledger.open, ledger.total()) == (0, 5)
    assert ledger.total(Outcome.UNEXPLAINED) == len(ledger.unexplained) == 3
    assert ledger.counts["refused", Outcome.REFUSED, "overloaded"] == 1
    assert [kind for kind, _ in ledger.take_latencies()] == ["right"]


def walk(samples: int, persistence: float, growth: float, seed: int) -> trend.Series:
    """A line with errors that persist, over one unit of time."""
    noise = np.random.default_rng(seed).normal(size=samples)
    error = np.zeros(samples)
    for at in range(1, samples):
        error[at] = persistence * error[at - 1] + noise[at]
    times = np.linspace(0, 1, samples)
    return times.tolist(), (100 + growth * times + error).tolist()


@pytest.mark.parametrize("persistence", [0.0, 0.5, 0.9, 1.0])
def test_what_only_wanders_does_not_grow(persistence: float) -> None:
    slopes = [trend.slope([walk(300, persistence, 0, seed)]) for seed in range(100)]
    growing = sum(slope is not None and slope.low > 0 for slope in slopes)
    assert growing <= 10  # 2.5 of 100 are expected


def test_what_grows_is_seen_with_its_slope() -> None:
    levels = [walk(120, 0.6, 20, seed) for seed in (1, 2)]
    levels[1] = (levels[1][0], [value + 300 for value in levels[1][1]])
    found = trend.slope(levels)
    assert found is not None
    assert 0 < found.low < 20 < found.high < 30
    assert trend.slope([([0.0, 1.0], [1.0, 2.0])]) is None


def rows(growth: float, minutes: int = 60) -> list[dict[str, str]]:
    """The time line of one worker, of 360 samples."""
    times, values = walk(360, 0.5, growth, seed=3)
    return [
        {"minute": f"{minutes * t:.3f}", "what": "worker 1", "rss_mb": f"{v:.2f}"}
        | {"files": "20", "threads": "9"}
        for t, v in zip(times, values, strict=True)
    ]


def test_the_verdict_names_what_failed() -> None:
    account = [{"kind": "http", "outcome": "right", "reason": "", "requests": "7"}]
    facts = report.Facts(60, 1.0, "", 5.0, 0, [], [], [])

    def verdict(growth: float, account: list[dict[str, str]], facts: report.Facts) -> list[str]:
        return report.verdict(account, list(record.growths(rows(growth), 5.0)), facts)

    assert verdict(0, account, facts) == []
    assert any(reason.startswith("memory") for reason in verdict(30, account, facts))
    assert verdict(30, account, facts._replace(minutes=10)) == []
    lost = [*account, {"kind": "http", "outcome": "unexplained", "reason": "", "requests": "2"}]
    assert verdict(0, lost, facts) == ["2 requests are unexplained"]
    assert verdict(0, account, facts._replace(failures=["x"])) == ["x"]


def test_no_two_pictures_have_the_same_answer(pictures: list[Picture]) -> None:
    assert len(pictures) == PICTURES
    for one in pictures:
        for other in pictures:
            if other is not one:
                for protocol in material.NAMES:
                    found = other.known[protocol]
                    with pytest.raises(WrongAnswer):
                        one.check(protocol, found.top, found.probability)
    answer = {"model": "other", "protocol": "center", "predictions": [{}]}
    with pytest.raises(WrongAnswer):
        material.check_classification(json.loads(json.dumps(answer)), pictures[0], "center")
