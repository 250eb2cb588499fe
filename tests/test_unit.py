"""`make unit` runs what starts no process and listens on no socket: by a rule, and guarded."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
from collections.abc import Callable, Iterator

import pytest

from tests import conftest, unit
from tests.server import free_port, serving


def starts() -> None:
    subprocess.run(["true"], check=True)


def starts_by_another() -> None:
    def inner() -> None:
        starts()

    inner()


@contextlib.contextmanager
def served() -> Iterator[None]:
    with socket.create_server(("127.0.0.1", 0)):
        yield


class Served:
    def enter(self) -> None:
        with served():
            pass


def asks_for_another(request: pytest.FixtureRequest) -> object:
    return request.getfixturevalue("server")


def computes() -> int:
    return sum(range(3))


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (starts, True),
        (starts_by_another, True),
        (served, True),
        (Served, True),
        (serving, True),
        (free_port, True),
        (asks_for_another, True),
        (computes, False),
    ],
)
def test_the_rule(function: Callable[..., object], expected: bool) -> None:
    assert unit.reaches(function) is expected


def test_a_test_is_served_by_its_fixtures(request: pytest.FixtureRequest) -> None:
    assert not unit.is_served(request.node)
    collected = {item.originalname: item for item in request.session.items}  # type: ignore[attr-defined]
    if of_a_server := collected.get("test_vandals_get_what_they_deserve"):
        assert unit.is_served(of_a_server)


def test_a_unit_test_can_start_no_process() -> None:
    guard = unit.Guard()
    guard.armed = True
    try:
        with pytest.raises(RuntimeError, match=r"a unit test may not do that: os\.posix_spawn"):
            os.posix_spawn("/bin/true", ["true"], {})
    finally:
        guard.armed = False


def test_no_test_gets_a_guard_of_its_own(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def another() -> unit.Guard:
        raise AssertionError("a guard stays, and is told of every file that is opened")

    monkeypatch.setattr(unit, "Guard", another)
    around = conftest.pytest_runtest_protocol(request.node)
    next(around)
    with contextlib.suppress(StopIteration):
        around.send(None)


def test_the_longest_files_are_there() -> None:
    assert all((conftest.HERE / name).is_file() for name in conftest.LONGEST)
