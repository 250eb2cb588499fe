"""The soak: every request has an end, crossed answers and growth are seen, few are excused."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from loadtests import client, server
from loadtests.soak import __main__ as command
from loadtests.soak import material, record, report, trend, vandals
from loadtests.soak.calls import GrpcUser
from loadtests.soak.http import HttpUser
from loadtests.soak.ledger import KILLED, Broken, Kill, Ledger, Outcome, Refused, WrongAnswer
from loadtests.soak.material import Picture
from loadtests.soak.network import Network
from loadtests.soak.run import Plan, run
from loadtests.soak.users import Pace, User
from loadtests.soak.vandals import Vandal
from tests.server import Server

PICTURES = 8
ABOUT = {"processor": "Abacus", "cores": "2 of 4", "python": "3.14"}


@pytest.fixture(autouse=True)
def less_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes a slow client three seconds takes here a part of one."""
    monkeypatch.setattr(vandals, "SLOW_SECONDS", 0.3)


@pytest.fixture(scope="module")
def pictures() -> list[Picture]:
    return material.pictures(PICTURES)


def test_a_short_soak_accounts_for_everything(
    tmp_path: Path, pictures: list[Picture], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(material, "pictures", lambda count: pictures[:count])
    plan = Plan(
        minutes=0.15,
        rate=20,
        swap_every_s=3,
        unload_every_s=3,
        kill_every_s=5,
        burst_every_s=4,
        burst_s=1,
        pictures=PICTURES,
    )
    soak = run(plan)
    assert soak.ledger.unexplained == []
    assert soak.chaos.failures == []
    assert soak.ledger.open == 0
    assert soak.ledger.total(Outcome.RIGHT) > 50
    kinds = {kind.partition(" ")[0] for kind, _, _ in soak.ledger.counts}
    assert {"http", "grpc", "burst", "operator"} < kinds
    whats = {event.what for event in soak.chaos.events}
    assert whats == {"version swapped", "unloaded and loaded", "worker killed", "burst"}
    found = {vital.process for vital in soak.vitals.processes}
    assert {"parent", "worker 1", "worker 2"} <= found

    text, reasons = report.write(
        tmp_path / "soak.csv",
        record.timeline(soak.vitals, soak.chaos.events),
        record.accounts(soak.ledger),
        command.facts(plan, soak, 0.02),
        ABOUT,
    )
    assert reasons == []
    assert text.startswith("# Soak of 0 minutes: pass\n")
    assert f"{soak.ledger.total():,} sent = " in text
    assert (tmp_path / "soak.md").read_text() == text
    assert (tmp_path / "soak.png").stat().st_size > 10_000


def do(running: Server, pictures: list[Picture], kind: type[User], *deeds: str) -> Ledger:
    """What a user of this kind writes down of these deeds."""

    async def doing() -> Ledger:
        ledger = Ledger()
        port, grpc_port = (int(a.rpartition(":")[2]) for a in (running.url, running.grpc_address))
        network = Network(server.Running(port, running.process, 0, grpc_port))
        user = kind(network, ledger, pictures, Pace(1), seed=1)
        for deed in deeds:
            act: Callable[[], asyncio.Future[None]] = getattr(user, deed)
            await act()
        await user.close()
        return ledger

    return client.run(doing())


ASKED = [
    (HttpUser, ("raw", "form", "oip_json", "oip_binary")),
    (GrpcUser, ("classify", "several", "stream", "infer")),
    (Vandal, ("slow_body",)),
]


@pytest.mark.parametrize(("kind", "deeds"), ASKED)
def test_an_answer_that_belongs_to_another_picture_is_seen(
    server: Server, pictures: list[Picture], kind: type[User], deeds: tuple[str, ...]
) -> None:
    right = do(server, pictures, kind, *deeds)
    assert right.unexplained == []
    crossed = [
        picture._replace(known=other.known)
        for picture, other in zip(pictures, pictures[1:] + pictures[:1], strict=True)
    ]
    for deed in deeds:
        ledger = do(server, crossed, kind, deed)
        assert ledger.total(Outcome.RIGHT) == 0
        assert " expected, class " in ledger.unexplained[0]


def test_vandals_get_what_they_deserve(server: Server, pictures: list[Picture]) -> None:
    leaving = ("leave_in_head", "leave_in_body", "leave_before_answer", "leave_in_answer")
    deeds = [*["bad_picture"] * 8, *["odd_picture"] * 4]
    ledger = do(server, pictures, Vandal, *leaving, *deeds, "slow_reader")
    assert ledger.unexplained == []
    assert ledger.total(Outcome.EXCUSED) == len(leaving)
    assert ledger.total(Outcome.RIGHT) == 13
    # here the limit is another: what is not refused as it should be is unexplained
    ledger = do(server, pictures, Vandal, "send_too_much")
    assert ledger.total(Outcome.UNEXPLAINED) == 1


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
