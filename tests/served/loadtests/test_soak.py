"""The soak: every request has an end, crossed answers and growth are seen, few are excused."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from loadtests.clients import client
from loadtests.harness import server
from loadtests.soak import __main__ as command
from loadtests.soak import material, record, report, vandals
from loadtests.soak.calls import GrpcUser
from loadtests.soak.http import HttpUser
from loadtests.soak.ledger import Ledger, Outcome
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
