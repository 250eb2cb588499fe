"""What docs/security.md promises is what the code has."""

from __future__ import annotations

import ast
import importlib
import re

import pytest

from service.config.settings import Settings
from tests.architecture import imported
from tests.paths import ROOT
from tests.unit.house.test_packaging import PROJECT

PAGE = (ROOT / "docs" / "security.md").read_text()
LIMITS = re.findall(r"^\| .* \| (\d+) \| `([\w.]+)` \|$", PAGE, re.MULTILINE)
SETTINGS = {name: int(value) for value, name in LIMITS if name.startswith("ZOO_")}
CONSTANTS = {name: int(value) for value, name in LIMITS if not name.startswith("ZOO_")}


def test_the_defaults_of_the_page_are_those_of_the_settings() -> None:
    defaults = {
        f"ZOO_{name.upper()}": field.default for name, field in Settings.model_fields.items()
    }
    assert len(SETTINGS) >= 10
    assert {name: defaults[name] for name in SETTINGS} == SETTINGS
    # what bounds a request is on the page; a batch and a drain are none of a client's business
    bounds = {name for name in defaults if name.startswith("ZOO_MAX_")} - {"ZOO_MAX_BATCH"}
    assert bounds <= set(SETTINGS)


@pytest.mark.parametrize("name", CONSTANTS)
def test_the_fixed_limits_of_the_page_are_those_of_the_code(name: str) -> None:
    module, _, constant = name.rpartition(".")
    assert getattr(importlib.import_module(module), constant) == CONSTANTS[name]


FLOORS = {
    "bentoml": "1.4.39",
    "onnx": "1.21",
    "pillow": "12.3",
    "starlette": "1.3.1",
    "torch": "2.10",
}
"""Below these, a flaw is known that matters here."""


def test_no_dependency_is_allowed_below_its_security_floor() -> None:
    extras = PROJECT["optional-dependencies"].values()
    requirements = [*PROJECT["dependencies"], *(each for extra in extras for each in extra)]
    allowed = dict(r.partition(";")[0].split(">=") for r in requirements)

    def parts(version: str) -> tuple[int, ...]:
        return tuple(map(int, version.split(".")))

    for name, floor in FLOORS.items():
        assert parts(allowed[name]) >= parts(floor), name


def test_nothing_that_a_client_sends_could_be_unpickled_fetched_or_run() -> None:
    forbidden = {
        "pickle",
        "marshal",
        "shelve",
        "dill",
        "cloudpickle",
        "httpx",
        "requests",
        "aiohttp",
    }
    forbidden |= {"urllib.request", "http.client", "ftplib"}
    for path in (ROOT / "service").rglob("*.py"):
        found = imported(path, {})
        assert not {each for each in found if each.startswith("service.healthcheck")}, path
        if path.name == "healthcheck.py":  # a program of its own: it asks the service
            found.discard("http.client")
        assert not found & forbidden, (path, found & forbidden)
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in ("eval", "exec", "__import__"), path


def test_weights_are_never_unpickled() -> None:
    for path in (ROOT / "export").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
                given = {each.arg: ast.unparse(each.value) for each in node.keywords}
                assert given.get("weights_only") == "True", path
