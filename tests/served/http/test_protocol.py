"""HTTP/1.1 on the wire: limits of heads and frames, pipelining, joined writes."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from service.transports.http.protocol import MAX_HEAD_BYTES, MAX_HEADERS
from tests.photographs import COFFEE
from tests.server import Server, serving


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("protocol"), zoo_threads=2) as running:
        yield running


def connect(server: Server) -> socket.socket:
    host, port = server.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=20)


def exchange(server: Server, *pieces: bytes) -> bytes:
    """All that comes until the server hangs up, which it must do within the time-out."""
    with closing(connect(server)) as connection:
        answer = b""
        try:
            for piece in pieces:
                connection.sendall(piece)
            while more := connection.recv(65536):
                answer += more
        except (ConnectionResetError, BrokenPipeError):
            pass  # it hung up while we were still sending
        return answer


def until(true: Callable[[], bool], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end


GET = b"GET /livez HTTP/1.1\r\nHost: x\r\n"
POST = b"POST /classify HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
TE = b"POST /classify HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: %b\r\n\r\n"
CHUNKS = b"1\r\na\r\n0\r\n\r\n"

REFUSED = {
    "no HTTP": [b"hello\r\n\r\n"],
    "no HTTP at all": [bytes(range(256)) * 4],
    "a long target": [b"GET /" + b"a" * MAX_HEAD_BYTES + b" HTTP/1.1\r\nHost: x\r\n\r\n"],
    "a long header": [GET + b"A: " + b"b" * MAX_HEAD_BYTES + b"\r\n\r\n"],
    "an endless header": [GET + b"A: ", *[b"b" * 100_000] * 100],
    "an endless name": [GET, *[b"b" * 100_000] * 100],
    "many headers": [GET + b"".join(b"A%d: b\r\n" % i for i in range(MAX_HEADERS)) + b"\r\n"],
    "headers without end": [GET, *[b"".join(b"A%d: b\r\n" % i for i in range(999))] * 99],
    "two lengths": [GET + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab"],
    "a length and chunks": [GET + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nabc"],
    "an endless extension": [POST, b"1;", *[b"a" * 100_000] * 100],
    "endless trailers": [POST + b"1\r\na\r\n0\r\n", *[b"A: " + b"b" * 100_000] * 100],
    "a tunnel": [b"CONNECT x:1 HTTP/1.1\r\nHost: x:1\r\n\r\n"],
    "a chunk of no size": [POST + b"x\r\n"],
    "no host": [b"GET /livez HTTP/1.1\r\n\r\n"],
    "two hosts": [GET + b"Host: y\r\n\r\n"],
    "the same host twice": [GET + b"Host: x\r\n\r\n"],
    "two hosts of HTTP/1.0": [GET.replace(b"1.1", b"1.0") + b"Host: y\r\n\r\n"],
    "a host with a path": [b"GET /livez HTTP/1.1\r\nHost: x/y\r\n\r\n"],
    "a host with a user": [b"GET /livez HTTP/1.1\r\nHost: u@x\r\n\r\n"],
    "two hosts in one": [b"GET /livez HTTP/1.1\r\nHost: x, y z\r\n\r\n"],
    "a port of letters": [b"GET /livez HTTP/1.1\r\nHost: x:http\r\n\r\n"],
    "a bad address": [b"GET /livez HTTP/1.1\r\nHost: [::1\r\n\r\n"],
    "HTTP/2.0": [GET.replace(b"1.1", b"2.0") + b"\r\n"],
    "HTTP/0.9": [b"GET /livez\r\n\r\n"],
    "HTTP/1.2": [GET.replace(b"1.1", b"1.2") + b"\r\n"],
    "a URL with a user": [GET.replace(b"/livez", b"http://u@x/livez") + b"\r\n"],
    "chunks not last": [TE % b"chunked, gzip" + CHUNKS],
    "chunks twice": [TE % b"chunked, chunked" + CHUNKS],
    "chunks in two headers": [TE % b"chunked\r\nTransfer-Encoding: chunked" + CHUNKS],
    "no chunks": [TE % b"gzip" + CHUNKS],
    "identity": [TE % b"identity" + CHUNKS],
    "identity and chunks": [TE % b"chunked\r\nTransfer-Encoding: identity" + CHUNKS],
    "chunks with a parameter": [TE % b"chunked;q=1" + CHUNKS],
    "an empty coding": [TE % b", chunked" + CHUNKS],
    "chunks of HTTP/1.0": [(TE % b"chunked").replace(b"1.1", b"1.0") + CHUNKS],
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_refused_is_a_problem_and_the_connection_ends(server: Server, kind: str) -> None:
    before = server.memory()
    started = time.monotonic()
    answer = exchange(server, *REFUSED[kind])
    assert time.monotonic() - started < 10
    assert server.memory() - before < 10e6
    if answer:  # a client that goes on sending may see a reset only
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400 ")
        assert json.loads(body)["code"] == "bad_parameter"
    assert answer or len(REFUSED[kind]) > 1
    assert server.client.get("/livez").status_code == 200


def test_just_within_the_limits(server: Server) -> None:
    headers = {f"A{i}": "b" * 200 for i in range(MAX_HEADERS - 10)}
    assert server.client.get("/livez", headers=headers).status_code == 200
    assert server.client.get("/livez", params={"a": "b" * 60_000}).status_code == 200


def test_small_chunks_are_a_body(server: Server) -> None:
    data = COFFEE.read_bytes()
    chunks = b"".join(b"1;x=y\r\n%c\r\n" % byte for byte in data)
    answer = exchange(server, POST.replace(b"Host", b"Connection: close\r\nHost"), chunks + b"0\r\n"
                      b"Trailer: ignored\r\n\r\n")  # fmt: skip
    assert b" 200 OK" in answer.splitlines()[0]
    assert b"espresso" in answer


def test_pipelined_requests_are_answered_in_order(server: Server) -> None:
    data = COFFEE.read_bytes()
    post = b"POST /classify HTTP/1.1\r\nHost: x\r\nX-Request-ID: %d\r\nContent-Length: %d\r\n\r\n"
    requests = [post % (i, len(data)) + data for i in range(5)]
    last = GET + b"X-Request-ID: last\r\nConnection: close\r\n\r\n"
    answer = exchange(server, b"".join(requests) + last)
    ids = [line.split()[1] for line in answer.splitlines() if line.startswith(b"x-request-id")]
    assert ids == [b"0", b"1", b"2", b"3", b"4", b"last"]
    assert answer.count(b"HTTP/1.1 200 OK") == 6


def test_many_small_pipelined_requests_are_no_large_head(server: Server) -> None:
    count = 2 * MAX_HEAD_BYTES // len(GET)
    answer = exchange(server, (GET + b"\r\n") * count + GET + b"Connection: close\r\n\r\n")
    assert answer.count(b"HTTP/1.1 200 OK") == count + 1


def test_an_answer_to_head_has_no_body_and_the_connection_goes_on(server: Server) -> None:
    with closing(connect(server)) as connection:
        for _ in range(2):
            connection.sendall(GET.replace(b"GET", b"HEAD") + b"\r\n")
            answer = connection.recv(65536)
            assert answer.startswith(b"HTTP/1.1 200 OK")
            assert answer.endswith(b"\r\n\r\n")


UPGRADE = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQA\r\n"


def test_an_upgrade_is_ignored_and_content_stays_content(server: Server) -> None:
    """RFC 9110, section 7.8. Parsers that stop at it take content for the next request."""
    data = COFFEE.read_bytes()
    head = b"POST /classify HTTP/1.1\r\nHost: x\r\n" + UPGRADE + b"Content-Length: %d\r\n\r\n"
    inner = GET + b"X-Request-ID: smuggled\r\n\r\n"
    last = GET + UPGRADE + b"\r\n" + GET + b"Connection: close\r\n\r\n"
    with closing(connect(server)) as connection:
        connection.sendall(head % len(data) + data[:100])
        until(lambda: server.metric("zoo_body_bytes") == 100)  # the rest comes in another read
        connection.sendall(data[100:] + head % len(inner))
        answer = connection.recv(65536)  # so the second head has been read
        connection.sendall(inner + last)
        while more := connection.recv(65536):
            answer += more
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.count(b"HTTP/1.1 ") == 4
    assert b"espresso" in answer
    assert b"smuggled" not in answer
    assert b"unsupported_format" in answer


def test_a_client_that_pipelines_without_reading_takes_no_memory(server: Server) -> None:
    request = GET + b"\r\n"
    before = server.memory()
    with closing(connect(server)) as connection:
        connection.settimeout(0.5)
        sent = 0
        with contextlib.suppress(TimeoutError):
            while sent < 60_000_000:
                sent += connection.send(request * 2000)
        assert server.memory() - before < 60e6
    assert server.client.get("/livez").status_code == 200


def test_a_burst_of_requests_waits_as_bytes(server: Server) -> None:
    """8,000 of them come in one read; parsed they would take twenty times as much."""
    burst = GET.replace(b"livez", b"openapi.json") + b"\r\n"
    before = server.memory()
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            connection = stack.enter_context(closing(connect(server)))
            connection.settimeout(0.2)
            with contextlib.suppress(TimeoutError):
                while True:
                    connection.sendall(burst * 8000)
        assert server.client.get("/livez").status_code == 200
        assert server.memory() - before < 50e6


def test_what_is_wrong_behind_an_answer_is_no_second_one(server: Server) -> None:
    with closing(connect(server)) as connection:
        connection.sendall(GET + b"Transfer-Encoding: chunked\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
        connection.sendall(b"no size\r\n")
        assert connection.recv(65536) == b""


def test_bodies_of_refused_requests_are_given_back(server: Server) -> None:
    body = bytes(200_000)

    def refuse() -> None:
        for _ in range(200):
            assert server.client.post("/livez", content=body).status_code == 405

    refuse()
    before = server.memory()
    refuse()
    refuse()
    assert server.memory() - before < 30e6


def test_a_client_that_leaves_is_noticed_although_it_asked_for_more(server: Server) -> None:
    data = COFFEE.read_bytes()
    head = b"POST /classify?protocol=ten_crop HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
    labels = 'model="efficientnet_lite0",protocol="ten_crop",transport="http",version="1"'
    name = f'zoo_requests_total{{code="cancelled",{labels}}}'
    for _ in range(20):
        with closing(connect(server)) as connection:
            connection.sendall(head % len(data) + data + GET + b"\r\n")
            until(lambda: server.metric("zoo_admitted_crops") > 0)
        if server.metric(name):
            return
    raise AssertionError(server.client.get("/metrics").text)


BEHIND = {
    "no HTTP": b"no HTTP\r\n\r\n",
    "bytes": bytes(range(128, 256)),
    "a version": b"GET /livez HTTP/2.0\r\nHost: x\r\n\r\n",
    "no host": b"GET /livez HTTP/1.1\r\n\r\n",
    "a broken chunk": POST + b"5\r\nhello\r\nx\r\n",
    "a coding": TE % b"gzip, chunked" + CHUNKS,
    "many headers": GET + b"".join(b"A%d: b\r\n" % i for i in range(MAX_HEADERS)) + b"\r\n",
}


@pytest.mark.parametrize("kind", BEHIND)
def test_what_came_before_garbage_is_answered_and_nothing_in_its_place(
    server: Server, kind: str
) -> None:
    """One request in work and one behind it, then what is refused: two answers, then the end."""
    data = COFFEE.read_bytes()
    head = b"POST /classify HTTP/1.1\r\nHost: x\r\nX-Request-ID: %d\r\nContent-Length: %d\r\n\r\n"
    two = b"".join(head % (number, len(data)) + data for number in (1, 2))
    answer = exchange(server, two + BEHIND[kind])
    assert answer.count(b"HTTP/1.1 ") == answer.count(b"HTTP/1.1 200 OK") == 2
    assert answer.index(b"x-request-id: 1\r\n") < answer.index(b"x-request-id: 2\r\n")
    last = answer.rpartition(b"HTTP/1.1 ")[2]
    assert b"connection: close" in last
    assert b"espresso" in last
    assert answer.count(b"connection: close") == 1


def test_a_chunk_that_breaks_behind_a_request_in_work(server: Server) -> None:
    """The second request's own body breaks, in a later read, while the first is being answered."""
    data = COFFEE.read_bytes()
    head = b"POST /classify?protocol=ten_crop HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
    with closing(connect(server)) as connection:
        connection.sendall(head % len(data) + data + POST)
        until(lambda: server.metric("zoo_admitted_crops") > 0)
        connection.sendall(b"no size\r\n")
        answer = b""
        while more := connection.recv(65536):
            answer += more
    assert answer.count(b"HTTP/1.1 ") == answer.count(b"HTTP/1.1 200 OK") == 1
    assert b"espresso" in answer


def test_other_transfer_codings_are_not_implemented(server: Server) -> None:
    """RFC 9112, section 6.1: what is understood by nobody here is 501, and never taken as is."""
    for coding in (b"gzip, chunked", b"br,chunked", b"gzip\r\nTransfer-Encoding: Chunked"):
        head, _, body = exchange(server, TE % coding + CHUNKS).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 501 ")
        assert b"connection: close" in head
        assert json.loads(body)["code"] == "unsupported_transfer_coding"


TRAILERS = {
    "a form": b"Content-Type: multipart/form-data; boundary=x\r\nX-Request-ID: smuggled\r\n",
    "a coding": b"Content-Encoding: br\r\n",
    "many": b"".join(b"A%d: b\r\n" % i for i in range(MAX_HEADERS + 44)),
}


@pytest.mark.parametrize("kind", TRAILERS)
def test_trailers_become_no_headers(server: Server, kind: str) -> None:
    """The handler reads the content type behind the body, so it would see them."""
    data = COFFEE.read_bytes()
    head = POST.replace(b"Host", b"Connection: close\r\nHost")
    with closing(connect(server)) as connection:
        connection.sendall(head + b"%x\r\n" % len(data) + data + b"\r\n")
        until(lambda: server.metric("zoo_body_bytes") == len(data))
        connection.sendall(b"0\r\n" + TRAILERS[kind] + b"\r\n")
        answer = b""
        while more := connection.recv(65536):
            answer += more
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert b"espresso" in answer
    assert b"smuggled" not in answer


def test_hosts_that_are_hosts(server: Server) -> None:
    for host in (b"x", b"x:80", b"x:", b"[::1]:3000", b"a.b-c_d~e", b"%41.example", b"127.0.0.1"):
        request = b"GET /livez HTTP/1.1\r\nConnection: close\r\nHost: " + host + b"\r\n\r\n"
        assert exchange(server, request).startswith(b"HTTP/1.1 200 "), host
    assert exchange(server, b"GET /livez HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 200 ")


def test_a_client_of_http_1_0_may_keep_its_connection(server: Server) -> None:
    data = COFFEE.read_bytes()
    head = b"POST /classify HTTP/1.0\r\nContent-Length: %d\r\n" % len(data)
    with closing(connect(server)) as connection:
        for _ in range(2):
            connection.sendall(head + b"Connection: Keep-Alive\r\n\r\n" + data)
            answer = connection.recv(65536)
            assert answer.startswith(b"HTTP/1.1 200 ")
            assert answer.count(b"\r\nconnection: keep-alive\r\n") == 1
        connection.sendall(head + b"\r\n" + data)
        answer = connection.recv(65536)
        assert b"\r\nconnection: close\r\n" in answer
        assert b"keep-alive" not in answer
        assert connection.recv(65536) == b""
        answer = exchange(server, b"GET /livez HTTP/1.0\r\nConnection: close\r\n\r\n")
        assert b"\r\nconnection: close\r\n" in answer


def test_a_refusal_to_http_1_0_does_not_say_both(server: Server) -> None:
    head = b"POST /classify?top_k=x HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\n"
    answer = exchange(server, head + b"ab")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"connection: close" in answer
    assert b"keep-alive" not in answer


def test_nothing_is_answered_in_place_of_an_earlier_request(server: Server) -> None:
    data = COFFEE.read_bytes()
    head = b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
    answer = exchange(server, head % len(data) + data + b"no HTTP\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert answer.count(b"HTTP/1.1 ") == 1


def test_expect_100_continue(server: Server) -> None:
    data = COFFEE.read_bytes()
    head = (
        b"POST /classify HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n"
    )
    with closing(connect(server)) as connection:
        connection.sendall(head % len(data))
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(data)
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 OK")


def test_an_answer_is_one_write(server: Server) -> None:
    data = COFFEE.read_bytes()
    head = b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(data)
    with closing(connect(server)) as connection:
        connection.sendall(head + data)
        answer = connection.recv(65536)
    assert answer.endswith(b"}}")
