"""What is installed, built and promised agrees with itself."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_extras() -> None:
    extras = PROJECT["optional-dependencies"]
    named = {"cpu", "gpu", "openvino", "tensorrt", "fast", "tracing", "export", "load", "dev"}
    assert set(extras) == named
    runtimes = [[r for r in extras[e] if re.match("onnxruntime(-gpu)?>", r)] for e in extras]
    assert sorted(map(len, runtimes))[-3:] == [0, 1, 1]  # never both in one extra
    for requirements in [PROJECT["dependencies"], *extras.values()]:
        for each in map(Requirement, requirements):
            assert [bound.operator for bound in each.specifier][-1:] == [">="] or each.name == (
                "tensorrt-cu13"
            ), each


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


@pytest.mark.parametrize("package", ["service", "models"])
def test_the_service_never_imports_what_only_export_needs(package: str) -> None:
    for path in (ROOT / package).rglob("*.py"):
        heads = {name.partition(".")[0] for name in imports(path)}
        assert not heads & {"torch", "torchvision", "timm", "onnx", "export", "sklearn"}, path


def test_nothing_below_a_transport_imports_one() -> None:
    for path in (ROOT / "service").rglob("*.py"):
        if "http" in path.relative_to(ROOT).parts or path.name == "app.py":
            continue
        assert not any(
            n.startswith(("service.transports.http", "starlette")) for n in imports(path)
        ), path


def test_only_the_grpc_skin_imports_grpc() -> None:
    for path in (ROOT / "service").rglob("*.py"):
        if "grpc" in path.relative_to(ROOT).parts or path.name == "app.py":
            continue
        named = [n for n in imports(path) if n.split(".")[0] in ("grpc", "google")]
        assert not named, (path, named)
        assert not any(n.startswith("service.transports.grpc") for n in imports(path)), path


def test_a_running_service_has_not_loaded_torch() -> None:
    code = "import service.app, sys; print([m for m in sys.modules if m.startswith('torch')])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
