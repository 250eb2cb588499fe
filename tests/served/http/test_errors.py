"""Whatever a client sends, it gets the right problem, quickly, and the service lives on."""

from __future__ import annotations

import asyncio
import io
import json
import socket
import struct
import time
import zlib
from collections.abc import Iterator
from contextlib import closing

import httpx
import pytest
from PIL import Image

from tests.photographs import CHELSEA, COFFEE
from tests.server import Server, serving

MEDIA_TYPE = "application/problem+json"


def check(reply: httpx.Response, status: int, code: str) -> str:
    assert (reply.status_code, reply.json().get("code")) == (status, code), reply.text
    assert reply.headers["content-type"] == MEDIA_TYPE
    problem = reply.json()
    assert set(problem) == {"type", "title", "status", "code", "detail", "request_id"}
    assert problem["status"] == status
    return problem["detail"]


def bomb() -> bytes:
    header = b"IHDR" + struct.pack(">IIBBBBB", 65535, 65535, 8, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(bytes(100_000))
    chunks = [header, data, b"IEND"]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks
    )


BODIES = {
    "garbage": (bytes(range(256)) * 40, 415, "unsupported_format"),
    "empty": (b"", 422, "undecodable_picture"),
    "text": (b"I am a cat, honestly", 415, "unsupported_format"),
    "truncated": (CHELSEA.read_bytes()[:50_000], 422, "undecodable_picture"),
    "bomb": (bomb(), 413, "picture_too_large"),
    "huge": (bytes(100 * 1024 * 1024), 413, "body_too_large"),
}


@pytest.mark.parametrize("kind", BODIES)
def test_bad_bodies(server: Server, kind: str) -> None:
    body, status, code = BODIES[kind]
    before = server.memory()
    started = time.perf_counter()
    reply = server.client.post("/classify", content=body)
    seconds = time.perf_counter() - started
    check(reply, status, code)
    assert seconds < (10 if kind == "huge" else 5)  # a hang, not a speed: those are benchmarked
    assert server.memory() - before < 40e6
    assert server.classify(COFFEE).json()["predictions"][0]["label"] == "espresso"


def test_bad_pictures_in_forms(server: Server) -> None:
    for kind in ("garbage", "empty", "text", "truncated", "bomb"):
        body, status, code = BODIES[kind]
        files = {"image": (f"{kind}.jpg", body, "image/jpeg")}
        check(server.client.post("/classify", files=files), status, code)


PARAMETERS = {
    "top_k=0": "top_k is 0",
    "top_k=1001": "allows 1 to 1000",
    "top_k=-1": "top_k",
    "top_k=five": "top_k",
    "top_k=5.0": "top_k",
    "top_k=": "top_k",
    "top_k=99999999999999999999": "top_k",
    "top_k=٣": "top_k",
    "top_k=1&top_k=2": "more than once",
    "protocol=foo": "center, ten_crop",
    "protocol=dense": "center, ten_crop, crops_144",
    "protocol=": "protocol",
    "model=lenet5&protocol=ten_crop": "center",
    "model=lenet5&top_k=11": "allows 1 to 10",
    "exif=maybe": "'apply' or 'ignore'",
    "topk=3": "there is no parameter 'topk'",
}


@pytest.mark.parametrize("query", PARAMETERS)
def test_bad_parameters(server: Server, query: str) -> None:
    reply = server.client.post(f"/classify?{query}", content=COFFEE.read_bytes())
    assert PARAMETERS[query] in check(reply, 400, "bad_parameter")


@pytest.mark.parametrize("query", ["top_k=1", "top_k=1000", "model=lenet5&top_k=10"])
def test_top_k_at_its_limits(server: Server, query: str) -> None:
    reply = server.client.post(f"/classify?{query}", content=COFFEE.read_bytes())
    assert len(reply.json()["predictions"]) == int(query.rpartition("=")[2])


@pytest.mark.parametrize(
    "query", ["model=vgg99", "model=../lenet5", "version=2", "version=01", "model=lenet5&version=x"]
)
def test_unknown_models(server: Server, query: str) -> None:
    reply = server.client.post(f"/classify?{query}", content=COFFEE.read_bytes())
    check(reply, 404, "unknown_model")


def form(*parts: bytes, end: bytes = b"--x--\r\n") -> bytes:
    return b"".join(b"--x\r\n" + part + b"\r\n" for part in parts) + end


PART = b'Content-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
FORMS = {
    "no image": form(b'Content-Disposition: form-data; name="picture"\r\n\r\nabc'),
    "parameter": form(PART + b"abc", b'Content-Disposition: form-data; name="top_k"\r\n\r\n3'),
    "no parts": b"--x--\r\n",
    "empty": b"",
    "no name": form(b"Content-Disposition: form-data\r\n\r\nabc"),
    "no disposition": form(b"Content-Type: image/png\r\n\r\nabc"),
    "not closed": form(PART + b"abc", end=b""),
    "other boundary": form(PART + b"abc").replace(b"--x", b"--y"),
    "garbage": bytes(range(256)) * 10,
    "header flood": form(b"".join(b"A%d: b\r\n" % i for i in range(5000)) + b"\r\nabc"),
    "endless header": form(b"A: " + b"b" * 100_000 + b"\r\n\r\nabc"),
}


@pytest.mark.parametrize("kind", FORMS)
def test_bad_forms(server: Server, kind: str) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    reply = server.client.post("/classify", content=FORMS[kind], headers=headers)
    check(reply, 400, "bad_parameter")


@pytest.mark.parametrize(
    "boundary", ["", "; boundary=", '; boundary=""', "; boundary=" + "x" * 5000]
)
def test_bad_boundaries(server: Server, boundary: str) -> None:
    headers = {"Content-Type": f"multipart/form-data{boundary}"}
    reply = server.client.post("/classify", content=form(PART + b"abc"), headers=headers)
    check(reply, 400, "bad_parameter")


def test_other_routes_and_methods(server: Server) -> None:
    check(server.client.get("/nothing/here"), 404, "not_found")
    check(server.client.post("/nothing"), 404, "not_found")
    reply = server.client.get("/classify")
    check(reply, 405, "method_not_allowed")
    assert reply.headers["allow"] == "POST"
    for method, path in (("DELETE", "/models/lenet5"), ("POST", "/readyz"), ("PUT", "/classify")):
        check(server.client.request(method, path), 405, "method_not_allowed")


def exchange(server: Server, request: bytes) -> bytes:
    host, port = server.url.removeprefix("http://").split(":")
    with closing(socket.create_connection((host, int(port)), timeout=20)) as raw:
        raw.sendall(request)
        answer = b""
        while b"}" not in answer and (piece := raw.recv(4096)):
            answer += piece
    return answer


def test_every_path_is_answered_here(server: Server) -> None:
    for path in ("/schema.json", "/docs.json", "/models/", "/classify/", "/metrics/", "/healthz"):
        check(server.client.get(path), 404, "not_found")
    for target in (b"/models/%0ax", b"*", b"/%00", b"//", b"/models/%2e%2e/x"):
        answer = exchange(server, b"GET " + target + b" HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"x-request-id" in answer.lower(), answer
        assert b" 404 " in answer.splitlines()[0]
    whole = exchange(server, b"GET http://x/livez HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b"alive" in whole


def test_timeouts(server: Server) -> None:
    data = COFFEE.read_bytes()
    for value in ("0", "-1", "soon", "1e3"):
        reply = server.client.post(
            "/classify", content=data, headers={"X-Request-Timeout-Ms": value}
        )
        check(reply, 400, "bad_parameter")
    reply = server.client.post("/classify", content=data, headers={"X-Request-Timeout-Ms": "1"})
    check(reply, 504, "deadline_exceeded")
    reply = server.client.post("/classify", content=data, headers={"X-Request-Timeout-Ms": "20000"})
    assert reply.status_code == 200


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service with small limits, so that they can be met from both sides."""
    with serving(
        tmp_path_factory.mktemp("limited"),
        zoo_max_body_bytes=len(COFFEE.read_bytes()),
        zoo_max_pictures=3,
        zoo_max_pixels=600 * 400,
        zoo_queue_crops=20,
        zoo_max_bodies_bytes=3 * len(COFFEE.read_bytes()),
        zoo_max_batch=4,
        zoo_log_format="json",
    ) as running:
        yield running


def test_the_body_limit(limited: Server) -> None:
    data = COFFEE.read_bytes()
    assert limited.classify(data).status_code == 200
    check(limited.classify(data[: len(data) // 2]), 422, "undecodable_picture")
    check(limited.classify(data + b"\0"), 413, "body_too_large")
    chunked = limited.client.post("/classify", content=iter([data]))
    assert chunked.status_code == 200
    check(limited.client.post("/classify", content=iter([data, b"\0"])), 413, "body_too_large")


def test_the_pixel_limit(limited: Server) -> None:
    for size, status in (((600, 400), 200), ((599, 400), 200), ((601, 400), 413)):
        buffer = io.BytesIO()
        Image.new("RGB", size).save(buffer, "PNG")
        assert limited.classify(buffer.getvalue()).status_code == status


def test_the_limit_of_pictures(limited: Server) -> None:
    for count, status in ((2, 200), (3, 200), (4, 413)):
        reply = limited.client.post("/classify", files=[("image", b"x")] * count)
        assert reply.status_code == status, reply.text
    check(reply, 413, "body_too_large")


def test_the_queue_limit(limited: Server) -> None:
    """Three requests of 10 crops at once into a queue of 20: at least one gets no permit."""
    buffer = io.BytesIO()
    Image.open(COFFEE).convert("RGB").save(buffer, "JPEG")

    async def flood() -> list[httpx.Response]:
        async with httpx.AsyncClient(base_url=limited.url, timeout=60) as client:
            ask = [
                client.post("/classify?protocol=ten_crop", content=buffer.getvalue())
                for _ in range(30)
            ]
            return await asyncio.gather(*ask)

    replies = asyncio.run(flood())
    codes = [reply.status_code for reply in replies]
    assert set(codes) == {200, 429}
    assert codes.count(200) >= 2
    refused = next(reply for reply in replies if reply.status_code == 429)
    check(refused, 429, "overloaded")
    assert int(refused.headers["Retry-After"]) >= 1
    assert limited.classify(buffer.getvalue()).status_code == 200


def test_a_slow_body_meets_the_deadline(limited: Server) -> None:
    host, port = limited.url.removeprefix("http://").split(":")
    head = b"POST /classify HTTP/1.1\r\nHost: x\r\nX-Request-Timeout-Ms: 500\r\n"
    with closing(socket.create_connection((host, int(port)), timeout=20)) as slow:
        slow.sendall(head + b"Content-Length: 5000\r\n\r\nabc")
        answer = b""
        while b"}" not in answer and (piece := slow.recv(4096)):
            answer += piece
    assert b" 504 " in answer.splitlines()[0]
    assert b"deadline_exceeded" in answer


def test_bodies_that_wait_are_bounded_together(limited: Server) -> None:
    """Three bodies that are nearly there fill the budget; a fourth is refused, until they go."""
    host, port = limited.url.removeprefix("http://").split(":")
    data = COFFEE.read_bytes()
    head = b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(data)
    waiting = [socket.create_connection((host, int(port)), timeout=20) for _ in range(3)]
    try:
        for connection in waiting:
            connection.sendall(head + data[:-1])
        end = time.monotonic() + 20
        while limited.metric("zoo_body_bytes") != 3 * (len(data) - 1):
            assert time.monotonic() < end
        reply = limited.classify(data)
        check(reply, 429, "overloaded")
        assert int(reply.headers["Retry-After"]) >= 1
    finally:
        for connection in waiting:
            connection.close()
    end = time.monotonic() + 20
    while limited.classify(data).status_code != 200:
        assert time.monotonic() < end


def test_memory_of_large_pictures_is_given_back(server: Server) -> None:
    pictures = {}
    for name, mode in (("rgb", "RGB"), ("gray16", "I;16"), ("rgba", "RGBA")):
        buffer = io.BytesIO()
        Image.new(mode, (5000, 5000)).save(buffer, "PNG", compress_level=9)
        pictures[name] = buffer.getvalue()
    server.classify(pictures["rgb"])
    before = server.memory()
    for picture in pictures.values():
        assert server.classify(picture).status_code == 200
        cut = server.classify(picture[: len(picture) // 2])
        assert cut.json()["code"] == "undecodable_picture"
    assert server.memory() - before < 40e6


def test_memory_of_refused_pictures_is_given_back(server: Server) -> None:
    broken = b"\xff\xd8\xff\xe0" + bytes(8_000_000)
    for _ in range(3):
        assert server.classify(broken).json()["code"] == "undecodable_picture"
    before = server.memory()
    for _ in range(25):
        server.classify(broken)
    assert server.memory() - before < 60e6


def test_a_client_that_leaves_harms_nobody(limited: Server) -> None:
    host, port = limited.url.removeprefix("http://").split(":")
    data = COFFEE.read_bytes()
    head = b"POST /classify?protocol=ten_crop HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
    for cut in (len(data), len(data) // 2, 0):
        with closing(socket.create_connection((host, int(port)), timeout=20)) as gone:
            gone.sendall(head % len(data) + data[:cut])
    end = time.monotonic() + 20
    while limited.metric("zoo_admitted_crops") or limited.metric("zoo_body_bytes"):
        assert time.monotonic() < end, "permits leaked"
        time.sleep(0.1)
    assert limited.classify(COFFEE).status_code == 200
    assert "Traceback" not in limited.log


def test_the_json_log_is_json(limited: Server) -> None:
    limited.client.get('/nothing"quoted', headers={"X-Request-ID": "find-me"})
    entry = json.loads(limited.logged("find-me"))
    assert entry["logger"] == "zoo.access"
    assert entry["status"] == 404
    assert entry["code"] == "not_found"
