"""Settings: defaults serve, a bad value stops the start with one line that names it."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from loadtests.harness.server import free_port
from service.config import settings
from tests.paths import ROOT
from tests.server import command, environment, serving


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in settings.Settings.model_fields:
        monkeypatch.delenv(f"ZOO_{name.upper()}", raising=False)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ZOO_WORKERS", "two"),
        ("ZOO_DEFAULT_MODEL", "vgg99"),
        ("ZOO_MODEL_SETTINGS", '{"lenet5": {"providers": 1}}'),
    ],
)
def test_the_start_stops_with_one_line(name: str, value: str, tmp_path: Path) -> None:
    done = subprocess.run(
        command(free_port()),
        cwd=ROOT,
        env=environment(tmp_path, **{name: value}),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode != 0
    assert done.stderr.startswith(f"bad setting {name}={value}: ")
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_a_misspelt_variable_and_a_missing_provider_are_logged(tmp_path: Path) -> None:
    odd: dict[str, Any] = {
        "zoo_defualt_model": "x",
        "zoo_providers": "tensorrt,cpu",
        "zoo_default_model": "lenet5",
    }
    with serving(tmp_path, **odd) as server:
        assert server.client.get("/models").json()["default"] == "lenet5"
        assert "ZOO_DEFUALT_MODEL is not a setting" in server.log
        assert "execution provider tensorrt is not in this onnxruntime" in server.log
        assert "Traceback" not in server.log
