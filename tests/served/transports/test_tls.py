"""TLS on both ports, with a certificate authority made for the test."""

from __future__ import annotations

import socket
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
import httpx
import pytest
import trustme

from loadtests.harness.server import free_port
from service.transports.grpc.protos import classifier_pb2 as messages
from service.transports.grpc.protos import classifier_pb2_grpc
from tests.paths import ROOT
from tests.photographs import CHELSEA
from tests.server import Server, command, environment, serving

QUICK = {"zoo_default_model": "lenet5", "zoo_load": "used", "zoo_max_batch": 1}


@dataclass
class Files:
    """An authority, and what it issued, as PEM files."""

    authority: trustme.CA
    ca: Path
    cert: Path
    key: Path

    def trusting(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        return context

    @property
    def settings(self) -> dict[str, Any]:
        return {**QUICK, "zoo_tls_cert": self.cert, "zoo_tls_key": self.key}


def issue(folder: Path, *names: str) -> Files:
    folder.mkdir(exist_ok=True)
    authority = trustme.CA()
    files = Files(authority, folder / "ca.pem", folder / "cert.pem", folder / "key.pem")
    leaf = authority.issue_cert(*names)
    authority.cert_pem.write_to_path(files.ca)
    files.cert.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
    leaf.private_key_pem.write_to_path(files.key)
    return files


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return issue(tmp_path_factory.mktemp("server"), "127.0.0.1")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, files: Files) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("tls")
    with serving(folder, tls=files.trusting(), **files.settings) as running:
        yield running


@pytest.fixture(scope="module")
def client_files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return issue(tmp_path_factory.mktemp("client"), "somebody@example.org")


@pytest.fixture(scope="module")
def mutual(
    tmp_path_factory: pytest.TempPathFactory, files: Files, client_files: Files
) -> Iterator[Server]:
    context = files.trusting()
    context.load_cert_chain(client_files.cert, client_files.key)
    folder = tmp_path_factory.mktemp("mutual")
    with serving(folder, tls=context, **files.settings, zoo_tls_client_ca=client_files.ca) as run:
        yield run


def classified(address: str, credentials: grpc.ChannelCredentials | None) -> bool:
    """Whether a call is answered; refused connections are UNAVAILABLE."""
    if credentials is None:
        channel = grpc.insecure_channel(address)
    else:
        channel = grpc.secure_channel(address, credentials)
    with channel:
        asked = messages.ClassifyRequest(images=[CHELSEA.read_bytes()])
        call = classifier_pb2_grpc.ClassifierStub(channel).Classify.future(asked, timeout=20)
        assert call.code() in (grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE)
        return call.code() is grpc.StatusCode.OK


def ports(server: Server) -> list[tuple[str, int]]:
    http = urlsplit(server.url)
    return [(http.hostname or "", http.port or 0), ("127.0.0.1", int(server.grpc_address[10:]))]


def test_both_ports_answer(server: Server, files: Files) -> None:
    assert server.url.startswith("https://")
    assert server.classify(CHELSEA).status_code == 200
    assert server.client.post("/classify", content=bytes(40_000_000)).status_code == 413
    assert classified(server.grpc_address, grpc.ssl_channel_credentials(files.ca.read_bytes()))
    assert "with TLS" in server.logged("gRPC on")


def test_plain_text_is_refused(server: Server) -> None:
    with pytest.raises(httpx.TransportError):
        httpx.get(f"http{server.url.removeprefix('https')}/livez")
    assert not classified(server.grpc_address, None)
    assert server.client.get("/livez").status_code == 200


def test_clients_that_do_not_know_the_authority_hang_up(
    server: Server, client_files: Files
) -> None:
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        httpx.get(f"{server.url}/livez")
    other = grpc.ssl_channel_credentials(client_files.ca.read_bytes())
    assert not classified(server.grpc_address, other)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1:DeprecationWarning")  # to be refused
@pytest.mark.parametrize(
    ("version", "answered"),
    [("TLSv1_1", False), ("TLSv1_2", True), ("TLSv1_3", True)],
)
def test_tls_1_2_at_least(server: Server, files: Files, version: str, answered: bool) -> None:
    context = files.trusting()
    context.set_ciphers("ALL:@SECLEVEL=0")  # or this end would refuse the old version itself
    context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
    for address in ports(server):
        with socket.create_connection(address, timeout=20) as connection:
            if not answered:
                with pytest.raises((ssl.SSLError, ConnectionError), match=r"EOF|ALERT|reset"):
                    context.wrap_socket(connection, server_hostname="127.0.0.1")
                continue
            with context.wrap_socket(connection, server_hostname="127.0.0.1") as wrapped:
                name, _, bits = wrapped.cipher() or ("", "", 0)
                assert bits >= 128
                assert "GCM" in name or "CHACHA20" in name


def test_clients_show_a_certificate_where_one_is_asked(
    mutual: Server, files: Files, client_files: Files
) -> None:
    assert mutual.classify(CHELSEA).status_code == 200
    ca = files.ca.read_bytes()
    pair = (client_files.key.read_bytes(), client_files.cert.read_bytes())
    assert classified(mutual.grpc_address, grpc.ssl_channel_credentials(ca, *pair))


@pytest.mark.parametrize("shown", ["none", "foreign"])
def test_clients_without_the_right_certificate_are_refused(
    mutual: Server, files: Files, shown: str
) -> None:
    context = files.trusting()
    pair: tuple[bytes, bytes] | tuple[None, None] = (None, None)
    if shown == "foreign":  # the authority of the server's certificate is not that of clients
        context.load_cert_chain(files.cert, files.key)
        pair = (files.key.read_bytes(), files.cert.read_bytes())
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{mutual.url}/livez", verify=context)
    ca = files.ca.read_bytes()
    assert not classified(mutual.grpc_address, grpc.ssl_channel_credentials(ca, *pair))


@pytest.mark.parametrize("workers", [2])
def test_keys_and_tls_of_several_workers(tmp_path: Path, files: Files, workers: int) -> None:
    settings: dict[str, Any] = {**files.settings, "zoo_workers": workers, "zoo_api_keys": "k" * 16}
    with serving(tmp_path, tls=files.trusting(), **settings) as server:
        server.logged("gRPC on", times=workers, seconds=60)
        assert server.client.get("/models").status_code == 401
        answer = server.client.get("/models", headers={"Authorization": f"Bearer {'k' * 16}"})
        assert answer.status_code == 200


def test_a_key_of_another_certificate_stops_the_start(
    tmp_path: Path, files: Files, client_files: Files
) -> None:
    settings: dict[str, Any] = {**files.settings, "zoo_tls_key": client_files.key}
    done = subprocess.run(
        command(free_port()),
        cwd=ROOT,
        env=environment(tmp_path, **settings),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode != 0
    assert done.stderr == (
        f"bad setting ZOO_TLS_KEY={client_files.key}: it is not the key of ZOO_TLS_CERT\n"
    )
