"""What is installed, built and promised agrees with itself."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

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


def test_a_running_service_has_not_loaded_torch() -> None:
    code = "import service.app, sys; print([m for m in sys.modules if m.startswith('torch')])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
