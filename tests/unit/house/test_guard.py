"""`make unit` runs tests/unit, which starts no process, opens no port and needs no PyTorch."""

from __future__ import annotations

import os
import re
import socket

import pytest

from tests import conftest
from tests.paths import ROOT

# what takes seconds to import, or is there to start servers
FORBIDDEN = re.compile(
    r"^\s*(?:from|import) (?:torch|torchvision|timm|export|subprocess|multiprocessing|pty"
    r"|tests\.(?:server|references|pytorch|served)|loadtests\.gpu)\b"
    r"|^from loadtests import (?:\w+, )*precision\b"
    r"|\badd_(?:in)?secure_port\b|\bstart_server\b",  # of grpcio and asyncio, in compiled code
    re.MULTILINE,
)


def test_a_unit_test_can_start_no_process_and_open_no_port() -> None:
    with pytest.raises(RuntimeError, match=r"a unit test may not do that: os\.posix_spawn"):
        os.posix_spawn("/bin/true", ["true"], {})
    with pytest.raises(RuntimeError, match=r"a unit test may not do that: Popen"):
        os.popen("true")
    refused = pytest.raises(RuntimeError, match=r"a unit test may not do that: socket\.bind")
    with socket.socket() as connection, refused:
        connection.bind(("127.0.0.1", 0))


def test_unit_tests_import_neither_pytorch_nor_what_starts_servers() -> None:
    for file in (ROOT / "tests" / "unit").rglob("*.py"):
        assert not FORBIDDEN.search(file.read_text(encoding="utf-8")), file


def test_the_longest_files_are_there() -> None:
    assert all((ROOT / "tests" / name).is_file() for name in conftest.LONGEST)
