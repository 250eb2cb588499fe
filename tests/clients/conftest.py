"""The real server, started by the Python of its own environment, for clients that have another.

`make test` sets ZOO_TEST_PYTHON; without it these tests are not collected (tests/conftest.py).
"""

from __future__ import annotations

import os
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.paths import ROOT
from tests.server import Server, serving

PYTHON = os.environ.get("ZOO_TEST_PYTHON", "")


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("server"), python=PYTHON) as running:
        yield running


@dataclass(frozen=True)
class Guarded:
    """A server with TLS and a key, and what its clients need to know."""

    server: Server
    ca: Path
    key: str

    @property
    def address(self) -> str:
        """Host and port of HTTP."""
        return self.server.url.removeprefix("https://")


@pytest.fixture(scope="session")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    folder, key = tmp_path_factory.mktemp("guarded"), "the-key-that-clients-show"
    authority = trustme.CA()
    leaf = authority.issue_cert("127.0.0.1")
    ca, cert, private = (folder / f"{name}.pem" for name in ("ca", "cert", "private"))
    authority.cert_pem.write_to_path(ca)
    leaf.cert_chain_pems[0].write_to_path(cert)
    leaf.private_key_pem.write_to_path(private)
    trusting = ssl.create_default_context(cafile=str(ca))
    settings: dict[str, Any] = {"zoo_tls_cert": cert, "zoo_tls_key": private, "zoo_api_keys": key}
    with serving(folder, python=PYTHON, tls=trusting, **settings) as running:
        yield Guarded(running, ca, key)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the pictures are."""
    path = tmp_path_factory.mktemp("pictures")
    subprocess.run([PYTHON, "-m", "tests.clients.pictures", str(path)], cwd=ROOT, check=True)
    return path


@pytest.fixture(scope="session")
def pictures(folder: Path) -> dict[str, bytes]:
    """Encoded pictures by name, as tests.clients.pictures writes them."""
    return {path.stem: path.read_bytes() for path in folder.iterdir()}
