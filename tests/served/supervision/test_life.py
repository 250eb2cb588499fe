"""A worker's end, as its event loop sees it."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import uvloop

from service.config.settings import Settings
from service.supervision import channel
from service.supervision.life import Life

SECONDS = 30


class Transport:
    """One that has nothing to finish."""

    def __init__(self, end: Callable[[], None]) -> None:
        self.drained = self.stopped = False
        self._end = end

    def drain(self) -> None:
        self.drained = True

    async def stop(self) -> None:
        assert self.drained
        self.stopped = True
        self._end()


class Uvicorn:
    """As much of its server as a `Life` has to do with."""

    def __init__(self) -> None:
        self.config = SimpleNamespace(timeout_graceful_shutdown=None)
        self.told = asyncio.Event()
        self.should_exit = False

    def handle_exit(self, _number: int, _frame: object) -> None:
        self.told.set()


@pytest.fixture
def pair() -> tuple[socket.socket, socket.socket]:
    """The supervisor's end and the worker's."""
    return socket.socketpair()


@pytest.mark.parametrize("unread", [False, True])
def test_a_supervisor_that_is_gone_is_noticed(
    pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch, unread: bool
) -> None:
    """Where it has not read all that was said, its end is a reset."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:  # as uvicorn does
        runner.run(_orphaned(*pair, monkeypatch, unread))


async def _orphaned(
    ours: socket.socket, its: socket.socket, monkeypatch: pytest.MonkeyPatch, unread: bool
) -> None:
    uvicorn = Uvicorn()
    transports: list[Transport] = []
    monkeypatch.setattr(signal, "getsignal", lambda _number: uvicorn.handle_exit)
    life = Life(Settings(), its, lambda: None, transports)
    transports.append(Transport(life.end))
    life.begin()
    life.ready()
    if not unread:
        assert ours.recv(100) == b"ready\n"
    ours.close()
    await asyncio.wait_for(uvicorn.told.wait(), SECONDS)
    await life.closed()
    assert transports[0].stopped
    its.close()


def test_who_waits_for_a_word_hears_that_there_will_be_none(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, its = pair
    ours.sendall(b"go 1\ndra")
    its.sendall(b"ready\n")
    assert channel.line(its) == b"go 1"
    ours.close()
    assert channel.line(its) == b""
    its.close()
