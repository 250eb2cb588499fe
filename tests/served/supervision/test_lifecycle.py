"""Start, stop and the death of workers, as those notice who run the service or call it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import httpx
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from loadtests.harness.server import free_port
from service.transports.grpc.protos import classifier_pb2 as pb
from service.transports.grpc.protos import classifier_pb2_grpc
from tests import capabilities
from tests.paths import ROOT
from tests.photographs import COFFEE
from tests.server import WORKER, Server, command, environment, named, serving

QUICK: dict[str, Any] = {"zoo_default_model": "lenet5", "zoo_load": "used", "zoo_threads": 1}
QUICK["zoo_max_batch"] = 1  # none is learnt
SECONDS = 30
"""Patience with a loaded machine."""
PICTURE = COFFEE.read_bytes()
POST = b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(PICTURE)
READY = b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n"


def connect(server: Server) -> socket.socket:
    host, port = server.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=SECONDS)


def answer(connection: socket.socket) -> tuple[int, bool]:
    """The status of the next answer, and whether it says that it is the last."""
    text = b""
    while b"\r\n\r\n" not in text:
        piece = connection.recv(65536)
        assert piece, f"the connection ended within an answer: {text!r}"
        text += piece
    head, _, body = text.partition(b"\r\n\r\n")
    headers = head.lower().split(b"\r\n")
    (length,) = (int(each.split()[1]) for each in headers if each.startswith(b"content-length"))
    while len(body) < length:
        body += connection.recv(65536)
    return int(head.split()[1]), b"connection: close" in headers


@pytest.fixture
def draining(tmp_path: Path) -> Iterator[Server]:
    with serving(tmp_path, **QUICK, zoo_drain_ms=6000, zoo_workers=2) as running:
        running.logged("serves, after", 2, SECONDS)
        yield running


def test_a_stop_says_so_first_answers_all_it_accepted_and_closes_both_ports(
    draining: Server,
) -> None:
    server = draining
    health = health_pb2.HealthCheckRequest()
    with (
        closing(connect(server)) as kept,
        closing(connect(server)) as idle,
        closing(connect(server)) as slow,
        grpc.insecure_channel(server.grpc_address) as channel,
    ):
        kept.sendall(READY)
        assert answer(kept) == (200, False)
        idle.sendall(READY)
        assert answer(idle) == (200, False)
        slow.sendall(POST + PICTURE[:1000])
        stub = health_pb2_grpc.HealthStub(channel)
        assert stub.Check(health, timeout=SECONDS).status == health_pb2.HealthCheckResponse.SERVING
        server.process.send_signal(signal.SIGTERM)
        server.logged("draining", 2)
        # what is connected, and who connects now, is told to go elsewhere, and answered
        kept.sendall(READY)
        assert answer(kept) == (503, True)
        assert kept.recv(10) == b""
        with closing(connect(server)) as late:
            late.sendall(POST + PICTURE)
            assert answer(late) == (200, True)
        assert "zoo.model loaded lenet5 version 1" in server.log
        status = stub.Check(health, timeout=SECONDS).status
        assert status == health_pb2.HealthCheckResponse.NOT_SERVING
        classifier = classifier_pb2_grpc.ClassifierStub(channel)
        request = pb.ClassifyRequest(images=[PICTURE])
        assert len(classifier.Classify(request, timeout=SECONDS).results) == 1
        # the port closes, and nobody who connects until then hangs or is reset
        refused = False
        while not refused:
            try:
                with closing(connect(server)) as another:
                    another.sendall(READY)
                    assert answer(another) == (503, True)
            except ConnectionRefusedError:
                refused = True
        slow.sendall(PICTURE[1000:])
        assert answer(slow) == (200, True)
        assert idle.recv(10) == b""
        assert server.process.wait(SECONDS) == 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(server.grpc_address.split(":")[1])))


STOPPED_AT_ONCE = """
import asyncio, os, runpy, signal
from service.supervision.child import Child

begin = Child.begin

async def slowly(command):
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.sleep(0.5)
    return await begin(command)

Child.begin = slowly
runpy.run_module("bentoml", run_name="__main__", alter_sys=True)
"""


def test_a_stop_while_the_first_process_is_begun_is_not_missed(tmp_path: Path) -> None:
    """The signal comes while the process begins, which takes a moment."""
    process = subprocess.Popen(
        [sys.executable, "-c", STOPPED_AT_ONCE, *command(free_port())[3:]],
        cwd=ROOT,
        env=environment(tmp_path, **QUICK, zoo_grpc_port=free_port()),
        start_new_session=True,
    )
    try:
        assert process.wait(2 * SECONDS) == 0
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def test_the_grace_time_is_not_exceeded(tmp_path: Path) -> None:
    """A client that never finishes what it sends is given up, and nothing needs to be killed."""
    with serving(tmp_path, **QUICK, zoo_grace_ms=300) as server, closing(connect(server)) as slow:
        slow.sendall(POST + PICTURE[:1000])
        server.wait_for(lambda: server.metric("zoo_body_bytes") == 1000)
        server.client.close()
        started = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(SECONDS) == 0
        assert time.monotonic() - started < 20  # the deadline of the request is 30 s
        assert "killed" not in server.log


def test_ctrl_c_reaches_all_processes_and_is_a_stop(tmp_path: Path) -> None:
    with serving(tmp_path, **QUICK) as server, closing(connect(server)) as slow:
        slow.sendall(POST + PICTURE[:1000])
        server.wait_for(lambda: server.metric("zoo_body_bytes") == 1000)
        os.killpg(server.process.pid, signal.SIGINT)
        server.logged("draining")
        slow.sendall(PICTURE[1000:])
        assert answer(slow) == (200, True)
        assert server.process.wait(SECONDS) == 0
        assert "Traceback" not in server.log


def test_nothing_outlives_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    with serving(tmp_path, **QUICK, zoo_workers=2) as server:
        family = psutil.Process(server.process.pid).children(recursive=True)
        assert len(family) == 2
        server.process.kill()
        assert not psutil.wait_procs(family, timeout=SECONDS)[1]


@contextmanager
def stuck(folder: Path, workers: int) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A server whose workers load their models for ever, and its port."""
    port = free_port()
    process = subprocess.Popen(
        command(port, "tests.harness.stuck:ZooService"),
        cwd=ROOT,
        env=environment(folder, **QUICK, zoo_workers=workers, zoo_grpc_port=free_port()),
        start_new_session=True,
    )
    family: list[psutil.Process] = []
    try:
        end = time.monotonic() + 2 * SECONDS
        while len(family) != workers:
            assert time.monotonic() < end
            time.sleep(0.02)
            family = named(process.pid, WORKER)
        yield process, port
    finally:
        process.kill()
        process.wait()
        for each in family:
            with suppress(psutil.NoSuchProcess):
                each.kill()


def test_nor_one_that_is_killed_while_its_workers_start(tmp_path: Path) -> None:
    """They need not finish: a model may take minutes to load, or never be."""
    with stuck(tmp_path, workers=2) as (process, _port):
        family = psutil.Process(process.pid).children()
        process.kill()
        assert not psutil.wait_procs(family, timeout=SECONDS)[1]


def test_a_dead_worker_is_replaced_by_the_spare_and_the_port_never_refuses(tmp_path: Path) -> None:
    """In a container too, where BentoML starts none anew."""
    container: dict[str, Any] = {"zoo_spare": True, "bentoml_containerized": "true"}
    with serving(tmp_path, **QUICK, **container) as server:
        server.wait_for(lambda: bool(server.spares()), SECONDS)
        (spare,) = server.spares()
        (victim,) = server.workers()
        victim.kill()
        for _ in range(5):  # they wait for the next worker, which is the spare
            assert httpx.get(f"{server.url}/readyz", timeout=SECONDS).status_code == 200
        assert [each.pid for each in server.workers()] == [spare.pid]
        line = server.logged(f"worker 1 (process {victim.pid}) ended by SIGKILL")
        assert "the next one starts now" in line
        server.wait_for(lambda: bool(server.spares()), SECONDS)


def test_a_worker_that_is_told_to_end_finishes_and_is_replaced(tmp_path: Path) -> None:
    with serving(tmp_path, **QUICK) as server, closing(connect(server)) as slow:
        slow.sendall(POST + PICTURE[:1000])
        server.wait_for(lambda: server.metric("zoo_body_bytes") == 1000)
        server.client.close()
        (worker,) = server.workers()
        worker.terminate()
        server.logged("draining")
        slow.sendall(PICTURE[1000:])
        assert answer(slow) == (200, True)
        server.logged("ended with exit status 0; the next one starts", seconds=SECONDS)
        assert httpx.get(f"{server.url}/readyz", timeout=SECONDS).status_code == 200


def test_workers_that_die_while_they_start_are_tried_again_later_and_later(tmp_path: Path) -> None:
    trigger = tmp_path / "trigger"
    dying: dict[str, object] = {"service": "tests.harness.dying:ZooService", "dying": trigger}
    with serving(tmp_path, **QUICK, **dying) as server:  # type: ignore[arg-type]
        trigger.touch()
        server.workers()[0].kill()
        server.logged(
            "ended with exit status 9 before it served; the next one starts in 1 s", 1, 60
        )
        trigger.unlink()
        assert httpx.get(f"{server.url}/readyz", timeout=60).status_code == 200


def test_a_service_that_cannot_start_ends_with_the_status_of_its_workers(tmp_path: Path) -> None:
    trigger = tmp_path / "trigger"
    trigger.touch()
    done = subprocess.run(
        command(free_port(), "tests.harness.dying:ZooService"),
        env=environment(tmp_path, **QUICK, dying=trigger, zoo_grpc_port=free_port()),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 9
    assert done.stdout.count("ended with exit status 9 before it served") == 3
    assert "it is not tried again" in done.stdout.splitlines()[-1]


def assert_taken(port: int, folder: Path) -> None:
    """A service that is to have this port ends with one line."""
    done = subprocess.run(
        command(port),
        env=environment(folder / "another", **QUICK, zoo_grpc_port=0),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert done.stderr == f"HTTP cannot listen on 127.0.0.1:{port}: Address already in use\n"
    assert done.stdout == ""


def test_a_port_that_nobody_serves_yet_refuses_and_is_taken(tmp_path: Path) -> None:
    """Else a balancer that tries it would wait for the models to load; and two would share it."""
    with stuck(tmp_path, workers=1) as (process, port):
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=SECONDS)
        assert_taken(port, tmp_path)
        process.terminate()
        assert process.wait(SECONDS) == 0


def test_a_port_of_http_that_is_in_use_stops_the_start_with_one_line(tmp_path: Path) -> None:
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        assert_taken(port, tmp_path)


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    capabilities.demand("mount")
    folder = tmp_path / "full"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    subprocess.run(mount, check=True)
    try:
        with suppress(OSError), (folder / "file").open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_is_no_reason_not_to_serve(full_disk: Path, tmp_path: Path) -> None:
    """A write to a mapped file on a full disk would kill the worker."""
    settings: dict[str, Any] = {"zoo_state": full_disk / "state", "zoo_management": True}
    with serving(tmp_path, **QUICK, **settings, bentoml_home=full_disk / "home") as server:
        assert server.classify(COFFEE).status_code == 200
        assert "ended" not in server.log
        line = server.logged("metrics are kept in ")
        assert line.endswith("prometheus_multiproc_dir: No space left on device")
        elsewhere = Path(line.partition("metrics are kept in ")[2].partition(";")[0])
        assert list(elsewhere.glob("counter_*.db"))
        line = server.logged("zoo.scratch ZOO_STATE: ")
        assert line.endswith("No space left on device; clients cannot load or unload models")
        answer = server.client.post("/v2/repository/models/lenet5/load", json={})
        assert answer.status_code == 503
        server.process.terminate()
        assert server.process.wait(SECONDS) == 0
    assert not elsewhere.exists()


def test_a_state_that_is_no_folder_is_said(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with serving(tmp_path, **QUICK, zoo_state=file, zoo_management=True) as server:
        server.logged(f"ZOO_STATE: {file} cannot be written: File exists; clients cannot load")
        assert server.classify(COFFEE).status_code == 200


def test_a_worker_is_started_by_its_supervisor_alone() -> None:
    code = "from service.supervision.worker import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.startswith("a worker is started by its supervisor")
