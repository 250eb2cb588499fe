"""A private part of another package that is gone is named at the start."""

from __future__ import annotations

import ast
import asyncio
import importlib
import re
from collections.abc import Iterator
from importlib.metadata import version

import pytest

from service.supervision import internals
from service.supervision.internals import PARTS, PARTS_OF_WORKERS, missing
from tests.paths import ROOT

ALL = [(part, name) for part in PARTS + PARTS_OF_WORKERS for name in part.names.split()]
IN_TABLE = {(part.module, name) for part, name in ALL}


def test_nothing_is_missing_here() -> None:
    assert list(missing(PARTS + PARTS_OF_WORKERS)) == []


@pytest.mark.parametrize(("part", "name"), ALL, ids=lambda each: str(getattr(each, "module", each)))
def test_whatever_is_gone_is_missed(
    part: internals.Part, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _, attribute = name.partition(".")
    module = importlib.import_module(part.module)
    owner = getattr(module, first)
    if attribute in getattr(owner, "__dict__", {}):
        monkeypatch.delattr(owner, attribute)
    else:
        monkeypatch.delattr(module, first)
    gone = f"{part.package} {version(part.package)} has no {part.module}.{name}, which the service"
    assert any(line.startswith(gone) for line in missing([part]))


def test_a_module_that_is_gone_is_missed() -> None:
    for module in ("_bentoml_impl.server.app", "_bentoml_impl.loader"):
        assert (module, "") in {(part.module, part.names) for part in PARTS}
    (line,) = missing([internals.Part("bentoml", "_bentoml_impl.elsewhere", "main", "go on")])
    assert "has no _bentoml_impl.elsewhere.main, which the service needs to go on" in line


def test_what_only_instances_have_is_seen() -> None:
    part = internals.Part("uvicorn", "uvicorn.server", "ServerState.connections", "stop")
    assert list(missing([part])) == []
    (line,) = missing([part._replace(names="ServerState.conns")])
    assert "ServerState.conns" in line


def private_modules() -> Iterator[str]:
    """Of other packages, as our sources name them."""
    for path in (ROOT / "service").rglob("*.py"):
        if "protos" not in path.parts:
            yield from re.findall(
                r"\b(?:_bentoml_impl\.[\w.]+|bentoml\._[\w.]+)\b", path.read_text()
            )


def test_every_private_module_that_is_named_is_in_the_table() -> None:
    known = {part.module for part in PARTS + PARTS_OF_WORKERS}
    for named in private_modules():
        assert any(module.startswith(named) for module in known), named


def test_what_the_protocol_takes_from_uvicorn_is_in_the_table() -> None:
    """All that it uses of itself, and neither has made itself nor asyncio has given it."""
    tree = ast.parse((ROOT / "service/transports/http/protocol.py").read_text())
    (kind,) = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and node.name == "BoundedProtocol"
    ]
    theirs = "uvicorn.protocols.http.httptools_impl"
    protocol = importlib.import_module(theirs).HttpToolsProtocol
    inherited = {name for name in dir(protocol) if not hasattr(asyncio.Protocol, name)}
    inherited |= internals._set_by(protocol)
    used = {
        node.attr
        for node in ast.walk(kind)
        if isinstance(node, ast.Attribute)
        and (ast.unparse(node.value) in ("self", "super()", "kind", "type(self)"))
    }
    made = {node.name for node in kind.body if isinstance(node, ast.FunctionDef)}
    made -= set(vars(protocol))
    needed = {f"HttpToolsProtocol.{name}" for name in used & inherited - made}
    assert {(theirs, name) for name in needed} <= IN_TABLE
