"""The comparison with other servers, as far as none of them is needed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from loadtests.clients import client
from loadtests.harness import server
from loadtests.harness.photographs import usual_pictures
from loadtests.peers import environments, measure
from loadtests.peers.catalogue import PEERS, first_class
from loadtests.peers.contenders import OURS_EXACT, Contender, first_classes, serving

LITE0 = server.ROOT / "models" / "efficientnet_lite0" / "1" / "model.onnx"
VERSIONS = {"server": "x 1", "onnxruntime": "2", "pillow": "3"}


@pytest.fixture(scope="module")
def pictures() -> list[bytes]:
    return usual_pictures()


@pytest.fixture(scope="module")
def starlette(pictures: list[bytes]) -> Contender:
    requests = [PEERS["starlette"].request(picture) for picture in pictures]

    def start() -> contextlib.AbstractContextManager[server.Running]:
        return serving(PEERS["starlette"], Path(sys.executable), LITE0, 2, requests[0])

    return Contender("starlette", start, requests, first_class, VERSIONS)


def test_an_environment_is_made_once(tmp_path: Path) -> None:
    folder = tmp_path / "peer"
    python = environments.prepare(folder, ["pip"])
    made = python.lstat().st_mtime_ns
    assert (folder / environments.STAMP).read_text() == environments.stamp_of(["pip"])
    assert environments.prepare(folder, ["pip"]).lstat().st_mtime_ns == made
    assert "pip" in environments.versions(python, ["pip"])
    wrong = "no-such-package @ file:///nowhere.whl"
    with pytest.raises(environments.EnvironmentFailed) as failure:
        environments.prepare(folder, [wrong])
    assert "\n" not in str(failure.value)
    assert not (folder / environments.STAMP).exists()


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    mine = tmp_path / "mine.txt"
    mine.write_text("mine")
    with pytest.raises(environments.EnvironmentFailed, match="no virtual environment"):
        environments.prepare(tmp_path, [])
    assert mine.read_text() == "mine"


def test_starlette_answers_as_the_service_does(starlette: Contender, pictures: list[bytes]) -> None:
    with starlette.start() as running:
        theirs = asyncio.run(first_classes(starlette, running.port))
    requests = [client.raw(picture) for picture in pictures]
    ours = Contender(OURS_EXACT, server.serving, requests, first_class, VERSIONS)
    with server.serving() as running:
        assert asyncio.run(first_classes(ours, running.port)) == theirs


def test_contenders_take_turns(starlette: Contender) -> None:
    tried = measure.alone(starlette, 2, 0.2)
    assert len(tried.first) == len(starlette.requests)
    assert tried.memory_bytes > 50e6
    second = Contender("second", starlette.start, starlette.requests, first_class, VERSIONS)
    found = measure.alternate([starlette, second], 2, 2, 0.2)
    assert {name: len(rates) for name, rates in found.rates.items()} == {
        "starlette": 2,
        "second": 2,
    }
    assert all(rate > 0 for rates in found.rates.values() for rate in rates)


def test_a_contender_that_falls_silent_is_an_error(
    starlette: Contender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "ANSWER_SECONDS", 0.3)

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async def load() -> None:
        listening = await asyncio.start_server(silent, "127.0.0.1", 0)
        async with listening:
            port = listening.sockets[0].getsockname()[1]
            await measure._load(starlette, port, 3, 0.1)

    with pytest.raises(RuntimeError, match="starlette left 3 of 3 requests unanswered"):
        asyncio.run(load())


def test_a_peer_that_does_not_start_says_why(tmp_path: Path) -> None:
    missing = tmp_path / "model.onnx"
    with (
        pytest.raises(server.ServerFailed, match=r"manifest\.json"),
        serving(PEERS["starlette"], Path(sys.executable), missing, 1, b""),
    ):
        pass


def test_a_suspended_server_ends_with_its_processes(tmp_path: Path) -> None:
    started = tmp_path / "started"
    command = ["sh", "-c", 'sleep 600 & touch "$0"; wait', str(started)]
    children: list[int] = []
    before = time.monotonic()

    with server.running(command, os.environ, 0, started.exists, tmp_path / "log") as running:
        children += server.family(running.process.pid)
        server.suspend(running.process.pid)
    assert len(children) == 2
    assert time.monotonic() - before < 15
    assert not any(_alive(child) for child in children)


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_an_interrupted_run_leaves_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "loadtests.peers", "--peers", "--seconds", "30"]
    process = subprocess.Popen(
        [*command, "--output", str(tmp_path / "peers.csv")],
        cwd=server.ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "trying ours, exact\n"
    servers: list[int] = []
    end = time.monotonic() + 60
    while not servers and time.monotonic() < end:
        time.sleep(0.1)
        servers = server.descendants(process.pid)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 128 + signal.SIGTERM
    assert not any(_alive(each) for each in servers)


async def test_an_answer_in_chunks_is_put_together() -> None:
    answer = (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"5\r\nhello\r\n7;name=value\r\n, world\r\n0\r\n\r\n"
    )

    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for size in (1, 7, len(answer)):
            await reader.readuntil(b"\r\n\r\n")
            for start in range(0, len(answer), size):
                writer.write(answer[start : start + size])
                await writer.drain()
                await asyncio.sleep(0)
        writer.close()

    listening = await asyncio.start_server(reply, "127.0.0.1", 0)
    async with listening:
        (connection,) = await client.connect(listening.sockets[0].getsockname()[1], 1)
        for _ in range(3):
            assert await connection.send(client.GET_LIVEZ) == 200
            assert connection.body == b"hello, world"
        connection.close()


async def test_an_empty_body_is_an_answer() -> None:
    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nx-content-length: 9\r\ncontent-length: 0\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\na: b\r\n\r\n")
        await writer.drain()
        writer.close()

    listening = await asyncio.start_server(reply, "127.0.0.1", 0)
    async with listening:
        (connection,) = await client.connect(listening.sockets[0].getsockname()[1], 1)
        for _ in range(2):
            assert await connection.send(client.GET_LIVEZ) == 200
            assert connection.body == b""
        connection.close()
