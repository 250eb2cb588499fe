"""Workers that are stopped, or whose event loop does not turn, are replaced; others are not."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator

import psutil
import pytest

from tests.photographs import COFFEE
from tests.server import Server, serving

HANG_MS = 2000
SAID = "has said nothing for 2 s: it is stopped, or its event loop hangs; it is killed"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    settings = {"zoo_default_model": "lenet5", "zoo_load": "used", "zoo_threads": 1}
    with serving(
        tmp_path_factory.mktemp("hanging"),
        service="tests.harness.hanging:ZooService",
        **settings,  # type: ignore[arg-type]
        zoo_workers=2,
        zoo_hang_ms=HANG_MS,
        busy=2 * HANG_MS / 1e3,
    ) as running:
        running.logged("serves, after", 2)
        yield running


def replaced(server: Server, victim: psutil.Process, times: int) -> None:
    """Wait until another process is in the place of this one."""
    assert server.logged(f"process {victim.pid} {SAID}")
    assert "next one starts" in server.logged(f"(process {victim.pid}) ended by SIGKILL")
    server.logged("serves, after", times)
    assert victim.pid not in {each.pid for each in server.workers()}
    assert len(server.workers()) == 2
    server.client.close()  # its connections may have been the victim's
    server.client = type(server.client)(base_url=server.url, timeout=60)
    assert server.classify(COFFEE).status_code == 200


def test_busy_threads_are_no_reason(server: Server) -> None:
    for each in server.workers():
        each.send_signal(signal.SIGUSR2)
    server.logged("threads were busy", 2)
    assert SAID not in server.log


def test_nor_is_a_stop_of_all_processes_or_a_machine_that_sleeps(server: Server) -> None:
    supervisor = psutil.Process(server.process.pid)
    family = [supervisor, *server.workers()]
    for each in family:
        each.suspend()
    time.sleep(1.5 * HANG_MS / 1e3)
    for each in family:
        each.resume()
    assert server.classify(COFFEE).status_code == 200
    assert SAID not in server.log


def test_a_worker_that_is_stopped_is_replaced(server: Server) -> None:
    victim = server.workers()[0]
    victim.suspend()
    replaced(server, victim, 3)


def test_a_worker_whose_event_loop_hangs_is_replaced(server: Server) -> None:
    victim = server.workers()[0]
    victim.send_signal(signal.SIGUSR1)
    replaced(server, victim, 4)
