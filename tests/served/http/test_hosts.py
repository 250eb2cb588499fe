"""Hosts that a request may name: a page whose own name was pointed here gets nothing."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing

import httpx
import pytest

from tests.photographs import COFFEE
from tests.server import Server, serving

EVIL = {"Host": "evil.example:3000", "Origin": "http://evil.example:3000"}
MANAGEMENT = ("index", "models/lenet5/load", "models/lenet5/unload")


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(
        tmp_path_factory.mktemp("hosts"),
        zoo_default_model="lenet5",
        zoo_load="used",
        zoo_management=True,
        zoo_allowed_hosts="Zoo.example, *.zoo.example, 127.0.0.1, [::1], 192.0.2.0/24",
        zoo_cors_origins="*",
    ) as running:
        yield running


def check(reply: httpx.Response, status: int, code: str) -> str:
    assert (reply.status_code, reply.json()["code"]) == (status, code), reply.text
    assert reply.headers["content-type"] == "application/problem+json"
    return str(reply.json()["detail"])


@pytest.mark.parametrize("path", MANAGEMENT)
def test_by_default_models_are_managed_by_this_machines_names(server: Server, path: str) -> None:
    """The session's server is closed to management: what is let through is told that."""
    path = f"/v2/repository/{path}"
    port = server.url.rpartition(":")[2]
    for headers in (
        EVIL,
        {"Host": "evil.example"},
        {"Host": ""},
        {"Host": "localhost.evil.example"},
    ):
        detail = check(server.client.post(path, headers=headers), 421, "misdirected_request")
        assert "ZOO_ALLOWED_HOSTS" in detail
    own = (
        "localhost",
        "LOCALHOST.",
        "zoo.localhost",
        "127.0.0.1",
        "127.8.8.8",
        "[::1]",
        "10.1.2.3",
    )
    for host in (*own, socket.gethostname()):
        headers = {"Host": f"{host}:{port}", "Origin": f"http://{host}:{port}"}
        check(server.client.post(path, headers=headers), 403, "management_closed")
    headers = {"Host": f"localhost:{port}", "Origin": "http://evil.example"}
    check(server.client.post(path, headers=headers), 403, "forbidden")


def test_by_default_other_routes_are_for_any_name(server: Server) -> None:
    for path in ("/livez", "/models", "/v2", "/docs"):
        assert server.client.get(path, headers=EVIL).status_code == 200
    reply = server.client.post("/classify", headers=EVIL, content=COFFEE.read_bytes())
    assert reply.status_code == 200


def test_a_url_as_the_target_says_the_host(server: Server, named: Server) -> None:
    """RFC 9112, section 3.2.2: the Host header does not count then."""
    for running, target, host, status in (
        (server, "http://evil.example/v2/repository/index", "localhost", b"421"),
        (server, "http://localhost/v2/repository/index", "evil.example", b"403"),
        (named, "http://zoo.example:80/v2", "evil.example", b"200"),
        (named, "http://evil.example/v2", "zoo.example", b"421"),
    ):
        method = "GET" if target.endswith("v2") else "POST"
        request = f"{method} {target} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\n\r\n"
        address, port = running.url.removeprefix("http://").split(":")
        with closing(socket.create_connection((address, int(port)), timeout=20)) as raw:
            raw.sendall(request.encode())
            assert raw.recv(65536).startswith(b"HTTP/1.1 " + status)


def test_where_hosts_are_named_every_route_is_for_them(named: Server) -> None:
    assert named.client.get("/models").status_code == 200  # 127.0.0.1 is named
    for host in ("zoo.example", "ZOO.example.:3000", "a.b.zoo.example", "[::1]:3000", "192.0.2.9"):
        reply = named.client.post("/v2/repository/index", headers={"Host": host})
        assert reply.status_code == 200, host
    data = COFFEE.read_bytes()
    for host in (
        "evil.example",
        "zoo.example.evil.example",
        "notzoo.example",
        "localhost",
        "192.0.3.1",
    ):
        headers = {"Host": host, "Origin": f"http://{host}"}
        for path in ("/models", "/docs", "/openapi.json", "/metrics", "/v2", "/nothing"):
            check(named.client.get(path, headers=headers), 421, "misdirected_request")
        for path in ("/classify", "/v2/models/lenet5/infer", "/v2/repository/index"):
            reply = named.client.post(path, headers=headers, content=data)
            assert "ZOO_ALLOWED_HOSTS" in check(reply, 421, "misdirected_request")
        preflight = {**headers, "Access-Control-Request-Method": "POST"}
        check(named.client.options("/classify", headers=preflight), 421, "misdirected_request")


def test_probes_are_asked_by_address(named: Server) -> None:
    """As a kubelet does, whatever address the pod has."""
    for path in ("/livez", "/readyz", "/v2/health/live", "/v2/health/ready"):
        for host in ("10.244.0.7:3000", "[fd00::7]:3000", "evil.example"):
            assert named.client.get(path, headers={"Host": host}).status_code == 200


@pytest.mark.needs("curl")
def test_curl_by_a_name_that_resolves_to_the_service(named: Server) -> None:
    port = named.url.rpartition(":")[2]
    for name, status in (("zoo.example", 200), ("evil.example", 421)):
        resolve = f"{name}:{port}:127.0.0.1"
        command = ["curl", "-sS", "--resolve", resolve, "-w", "\n%{http_code}"]
        done = subprocess.run(
            [*command, f"http://{name}:{port}/v2"], capture_output=True, check=True, timeout=60
        )
        body, _, code = done.stdout.decode().rpartition("\n")
        assert int(code) == status
        assert ("code" in json.loads(body)) == (status != 200)
