"""Signals that come twice: an echo loses nothing, impatience ends everything."""

from __future__ import annotations

import os
import signal
import time
from contextlib import ExitStack, closing
from pathlib import Path

import psutil
import pytest

from service.supervision.supervisor import ECHO_SECONDS
from tests.served.supervision.test_lifecycle import PICTURE, POST, QUICK, SECONDS, answer, connect
from tests.server import serving

REQUESTS = 8


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_an_echo_loses_no_request_that_was_accepted(tmp_path: Path, first: signal.Signals) -> None:
    """As when the process group of `make serve` is ended, and `make` passes SIGTERM on."""
    with serving(tmp_path, **QUICK, zoo_workers=2, zoo_spare=True) as server, ExitStack() as stack:
        server.logged("serves, after", 2)
        accepted = [stack.enter_context(closing(connect(server))) for _ in range(REQUESTS)]
        for each in accepted:
            each.sendall(POST + PICTURE[:1000])
        server.wait_for(lambda: server.metric("zoo_body_bytes") == 1000 * REQUESTS)
        server.client.close()
        began = time.monotonic()
        os.killpg(server.process.pid, first)
        # at a busy time the workers say so too late for an echo: then it finds them before that
        while server.log.count("draining") < 2 and time.monotonic() - began < ECHO_SECONDS / 4:
            time.sleep(0.01)
        os.killpg(server.process.pid, signal.SIGTERM)
        for each in accepted:
            each.sendall(PICTURE[1000:])
        assert [answer(each) for each in accepted] == [(200, True)] * REQUESTS
        # to the end: neither the workers nor their supervisor are hit while they put things away
        while server.process.poll() is None and time.monotonic() - began < ECHO_SECONDS / 2:
            os.killpg(server.process.pid, signal.SIGTERM)
            time.sleep(0.02)
        assert server.process.wait(SECONDS) == 0
        assert "ended" not in server.log


def test_a_signal_that_comes_later_stops_at_once(tmp_path: Path) -> None:
    with serving(tmp_path, **QUICK, zoo_drain_ms=600_000) as server:
        family = psutil.Process(server.process.pid).children(recursive=True)
        server.process.send_signal(signal.SIGINT)
        server.logged("draining")
        first = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        server.logged("SIGTERM within 2 s of the first signal: the same")
        assert server.process.poll() is None
        time.sleep(max(0.0, first + ECHO_SECONDS + 0.1 - time.monotonic()))
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(SECONDS) == 128 + signal.SIGTERM
        assert not psutil.wait_procs(family, timeout=SECONDS)[1]
