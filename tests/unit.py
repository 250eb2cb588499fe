"""What a unit test is: it starts no process, listens on no socket, and needs no PyTorch.

The rule reads code, not lists. A test is `served` where it, a fixture of it, or a function of the
tests or of loadtests that they name reaches a server, ``subprocess``, ``socket`` or the like.
What the rule cannot see says so by ``@pytest.mark.served``; the guard finds it. A test is `long`
where its file imports PyTorch or `export`, or where it says so: it takes seconds. A run of unit
tests does not even import such a file.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import pytest

_PYTORCH = re.compile(
    r"^(?:from|import) (?:torch|torchvision|timm|export|tests\.export|tests\.references)\b"
    r"|^from loadtests\.gpu\b"
    r"|^from loadtests import (?:\w+, )*precision\b",
    re.MULTILINE,
)
OURS = ("tests.", "loadtests.")
PROCESSES = frozenset({"subprocess", "socket", "multiprocessing", "pty"})
"""Modules whose use makes a test a served one."""
OPENS = frozenset(
    {
        *("add_insecure_port", "add_secure_port", "create_server", "start_server", "fork"),
        "getfixturevalue",  # of a fixture that is chosen while the test runs
    }
)
"""Names whose use does so too."""
EVENTS = frozenset({"subprocess.Popen", "os.posix_spawn", "os.fork", "os.exec", "socket.bind"})
"""What Python's audit hooks tell of the same."""


def is_served(item: pytest.Item) -> bool:
    """Whether the test starts processes or listens, as far as its code shows."""
    if item.get_closest_marker("served") or item.get_closest_marker("gpu"):
        return True
    if not isinstance(item, pytest.Function):
        return False
    found = [item.function]
    for definitions in item._fixtureinfo.name2fixturedefs.values():
        found += [definition.func for definition in definitions]
    return any(reaches(function) for function in found)


def is_long(item: pytest.Item) -> bool:
    """Whether the test's file needs PyTorch, whose import alone takes seconds, or says so."""
    return item.get_closest_marker("long") is not None or needs_pytorch(item.path)


@cache
def needs_pytorch(path: Path) -> bool:
    """Whether a file imports PyTorch at its top, or what exports networks."""
    return (
        path.suffix == ".py"
        and path.is_file()
        and _PYTORCH.search(path.read_text(encoding="utf-8")) is not None
    )


_known: dict[Any, tuple[bool, list[Any]]] = {}


def reaches(thing: Any) -> bool:
    """Whether a function or class of ours leads to a process or a socket."""
    seen: set[Any] = set()
    waiting = [thing]
    while waiting:
        one = waiting.pop()
        one = getattr(one, "__wrapped__", one)
        if one in seen:
            continue
        seen.add(one)
        opens, parts = _known.setdefault(one, _known.get(one) or _look(one))
        if opens:
            return True
        waiting += parts
    return False


def _look(thing: Any) -> tuple[bool, list[Any]]:
    """Whether it opens something itself, and what of ours it leads to."""
    if isinstance(thing, type):
        return False, [each for each in vars(thing).values() if isinstance(each, FunctionType)]
    found: list[Any] = []
    if isinstance(thing, FunctionType):
        for names in _chains(thing.__code__):
            if OPENS & set(names):
                return True, []
            for name in names:
                value = thing.__globals__.get(name)
                inner = [value]
                if isinstance(value, ModuleType):
                    if value.__name__ in PROCESSES:
                        return True, []
                    inner = [vars(value).get(o) for o in names] if _ours(value.__name__) else []
                found += [one for one in inner if _ours(getattr(one, "__module__", None))]
    return False, [one for one in found if isinstance(one, type | FunctionType)]


def _chains(code: CodeType) -> Iterator[tuple[str, ...]]:
    """The names that the code uses, its inner functions included."""
    yield code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _chains(constant)


def _ours(module: Any) -> bool:
    return isinstance(module, str) and module.startswith(OURS)


class Guard:
    """Refuses processes and sockets to the test that runs, if it is a unit test."""

    def __init__(self) -> None:
        self.armed = False
        sys.addaudithook(self._hear)  # there is no way to remove one

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.armed and event in EVENTS and not _importing():
            raise RuntimeError(f"a unit test may not do that: {event} {arguments[:2]}")


def _importing() -> bool:
    """Whether a module is being imported: some look for libraries, or try IPv6, once."""
    frame = sys._getframe()
    while (outer := frame.f_back) is not None:
        if outer.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = outer
    return False
