"""What is installed, built and promised agrees with itself."""

from __future__ import annotations

import re
import tomllib

from packaging.requirements import Requirement

from tests.paths import ROOT

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
