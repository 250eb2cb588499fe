"""Clients that are slow, idle or too many, and what others notice of them."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.photographs import COFFEE
from tests.server import Server, serving

MOST = 60
SECONDS = 30
"""Patience; the limits are a second or two."""
HEAD = b"GET /livez HTTP/1.1\r\nHost: x\r\n"
ENDLESS = HEAD + b"A: " + b"b" * 10_000
POST = b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(
        tmp_path_factory.mktemp("slow"),
        zoo_default_model="lenet5",
        zoo_load="used",
        zoo_max_connections=MOST,
        zoo_idle_ms=2000,
        zoo_slow_ms=1000,
        zoo_min_rate=1000,
    ) as running:
        yield running


def connect(server: Server, grpc_port: bool = False) -> socket.socket:
    place = server.grpc_address if grpc_port else server.url.removeprefix("http://")
    host, port = place.split(":")
    return socket.create_connection((host, int(port)), timeout=SECONDS)


def ended(server: Server, reason: str) -> float:
    return server.metric(f'zoo_http_connections_ended_total{{reason="{reason}"}}')


def drip(connection: socket.socket, data: bytes, seconds: float) -> bytes:
    """Send a byte at a time until the server answers, and return what it says until it hangs up."""
    connection.settimeout(seconds)
    answer = b""
    for byte in data:
        with suppress(OSError):
            connection.sendall(bytes([byte]))
        try:
            answer = connection.recv(65536)
            break
        except TimeoutError:
            continue
        except ConnectionResetError:  # it hung up before the last byte
            return b""
    connection.settimeout(SECONDS)
    with suppress(ConnectionResetError):
        while more := connection.recv(65536):
            answer += more
    return answer


@pytest.mark.parametrize(("data", "reason"), [(ENDLESS, "slow_head"), (b"x" * 1000, "slow_body")])
def test_a_head_or_a_body_that_drips_is_refused(server: Server, data: bytes, reason: str) -> None:
    before = ended(server, reason)
    with closing(connect(server)) as connection:
        if reason == "slow_body":
            connection.sendall(POST)
        answer = drip(connection, data, 0.05)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408 ")
    assert b"connection: close" in head
    problem = json.loads(body)
    assert (problem["code"], problem["status"]) == ("request_timeout", 408)
    assert ended(server, reason) == before + 1
    server.wait_for(lambda: server.metric("zoo_body_bytes") == 0)


def test_a_body_that_drips_behind_its_answer_is_not_waited_for(server: Server) -> None:
    before = ended(server, "slow_body")
    with closing(connect(server)) as connection:
        connection.sendall(HEAD + b"Content-Length: 100000\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
        assert drip(connection, b"x" * 600, 0.05) == b""
    assert ended(server, "slow_body") == before + 1


def test_who_asks_for_nothing_is_closed(server: Server) -> None:
    before = ended(server, "idle")
    with closing(connect(server)) as silent, closing(connect(server)) as kept:
        kept.sendall(HEAD + b"\r\n")
        assert kept.recv(65536).startswith(b"HTTP/1.1 200 ")
        assert silent.recv(1) == b""
        assert kept.recv(1) == b""
    assert ended(server, "idle") >= before + 2


def test_who_does_not_take_its_answers_is_cut(server: Server) -> None:
    before = ended(server, "slow_reader")
    request = HEAD.replace(b"livez", b"openapi.json") + b"\r\n"
    with closing(socket.socket()) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        host, port = server.url.removeprefix("http://").split(":")
        connection.connect((host, int(port)))
        connection.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                connection.sendall(request * 100)
        server.wait_for(lambda: ended(server, "slow_reader") > before, SECONDS)


def test_slow_but_steady_bodies_are_taken(server: Server) -> None:
    """Above the rate, for longer than a head may take, and twice what a connection may be idle."""
    picture = COFFEE.read_bytes()[:18_000]
    head = b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(picture)
    with closing(connect(server)) as connection:
        connection.sendall(head)
        for start in range(0, len(picture), 400):
            connection.sendall(picture[start : start + 400])
            time.sleep(0.1)
        assert connection.recv(65536).startswith(b"HTTP/1.1 422 ")  # all arrived: it is truncated


def test_hundreds_who_send_a_byte_at_a_time_keep_nobody_out(server: Server) -> None:
    stop = threading.Event()
    attackers = [connect(server) for _ in range(5 * MOST)]

    def attack() -> None:
        for byte in ENDLESS:
            for each in attackers:
                with suppress(OSError):
                    each.send(bytes([byte]), socket.MSG_DONTWAIT)
            if stop.wait(0.2):
                return

    thread = threading.Thread(target=attack)
    thread.start()
    try:
        time.sleep(1.5)
        assert server.metric("zoo_http_connections") <= MOST + 64
        for _ in range(20):
            answer = httpx.get(f"{server.url}/livez", timeout=SECONDS)
            assert answer.status_code == 200
        assert server.classify(COFFEE).status_code == 200
    finally:
        stop.set()
        thread.join()
        for each in attackers:
            each.close()
    assert ended(server, "too_many") > 0


def test_who_is_one_too_many_is_told_and_room_is_made_at_the_cost_of_the_idle(
    server: Server,
) -> None:
    server.reconnect()
    time.sleep(0.2)
    with ExitStack() as stack:
        held = [stack.enter_context(closing(connect(server))) for _ in range(MOST)]
        for each in held:  # each is busy: its body arrives
            each.sendall(POST + bytes(5000))
        time.sleep(0.5)
        with closing(connect(server)) as another:
            another.sendall(HEAD + b"\r\n")
            answer = another.recv(65536)
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 1" in answer
        assert b"which is its limit" in answer
    before = ended(server, "room")
    with ExitStack() as stack:
        held = [stack.enter_context(closing(connect(server))) for _ in range(MOST)]
        time.sleep(
            1.2
        )  # those that were idle for less are spared; after two seconds all are closed
        with closing(connect(server)) as another:
            another.sendall(HEAD + b"\r\n")
            assert another.recv(65536).startswith(b"HTTP/1.1 200 ")
        assert ended(server, "room") > before


def test_connections_of_grpc_are_bounded_and_must_begin_soon(server: Server) -> None:
    with ExitStack() as stack:
        held = [stack.enter_context(closing(connect(server, True))) for _ in range(MOST + 5)]
        for each in held[MOST:]:
            assert each.recv(1) == b""
        for each in held[:MOST]:  # silent ones are closed
            while each.recv(65536):
                continue
        with grpc.insecure_channel(server.grpc_address) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            answer = stub.Check(
                health_pb2.HealthCheckRequest(), timeout=SECONDS, wait_for_ready=True
            )
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
