"""deploy/compose.yaml against the schema of the Compose specification, and what it promises."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.paths import ROOT

DEPLOY = ROOT / "deploy"


@pytest.mark.parametrize("name", ["compose.yaml", "compose.gpu.yaml"])
def test_the_schema(name: str) -> None:
    check = Path(sys.executable).with_name("check-jsonschema")
    command: list[str | Path] = [check, "--builtin-schema", "vendor.compose-spec", DEPLOY / name]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_the_schema_finds_a_mistake(tmp_path: Path) -> None:
    wrong = tmp_path / "compose.yaml"
    wrong.write_text((DEPLOY / "compose.yaml").read_text().replace("read_only", "readonly"))
    check = Path(sys.executable).with_name("check-jsonschema")
    command: list[str | Path] = [check, "--builtin-schema", "vendor.compose-spec", wrong]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert "readonly" in done.stdout
