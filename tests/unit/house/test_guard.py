"""`make unit` runs tests/unit, which starts no process, opens no port and needs no PyTorch."""

from __future__ import annotations

import contextlib
import os
import re
import socket

import pytest

from tests import conftest, guard
from tests.paths import ROOT

# what takes seconds to import, or is there to start servers
FORBIDDEN = re.compile(
    r"^(?:from|import) (?:torch|torchvision|timm|export|subprocess|multiprocessing|pty"
    r"|tests\.(?:server|references|pytorch|served)|loadtests\.(?:gpu|benchmarks\.precision))\b"
    r"|^from loadtests\.benchmarks import (?:\w+, )*precision\b",
    re.MULTILINE,
)


def test_a_unit_test_can_neither_start_a_process_nor_open_a_port() -> None:
    with pytest.raises(RuntimeError, match=r"a unit test may not do that: os\.posix_spawn"):
        os.posix_spawn("/bin/true", ["true"], {})
    refused = pytest.raises(RuntimeError, match=r"a unit test may not do that: socket\.bind")
    with socket.socket() as connection, refused:
        connection.bind(("127.0.0.1", 0))


def test_unit_tests_import_neither_pytorch_nor_what_starts_servers() -> None:
    for file in (ROOT / "tests" / "unit").rglob("*.py"):
        assert not FORBIDDEN.search(file.read_text(encoding="utf-8")), file


def test_no_test_gets_a_guard_of_its_own(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def another() -> guard.Guard:
        raise AssertionError("a guard stays, and is told of every file that is opened")

    monkeypatch.setattr(guard, "Guard", another)
    around = conftest.pytest_runtest_protocol(request.node)
    next(around)
    with contextlib.suppress(StopIteration):
        around.send(None)
    request.config.stash[conftest.GUARD].armed = True  # as it was


def test_the_longest_files_are_there() -> None:
    assert all((ROOT / "tests" / name).is_file() for name in conftest.LONGEST)
