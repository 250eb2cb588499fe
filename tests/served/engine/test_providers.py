"""Which providers run: what is missing is passed over, or demanded; what runs is shown."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnxruntime
import pytest

from loadtests.harness.server import free_port
from service.engine import strict_check
from service.engine.providers import available as providers
from tests.paths import ROOT
from tests.photographs import COFFEE
from tests.server import Server, command, environment, serving


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """Each test tries and warns anew."""
    providers._failure.cache_clear()
    providers._warned.clear()
    yield
    providers._failure.cache_clear()
    providers._warned.clear()


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine with onnxruntime-gpu but without its libraries: listed, yet not working."""
    names = list(providers.ORT_NAMES.values())
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: names)


def test_the_server_shows_what_really_runs(server: Server) -> None:
    listed = server.client.get("/models").json()["models"]
    assert {model["name"] for model in listed} == {"efficientnet_lite0", "lenet5"}
    for summary in listed:
        assert summary["providers"] == ["cpu"]
        assert set(summary["nodes"]) == {"cpu"}
        assert str(summary["max_batch"]) in summary["batch_ms_per_crop"]
        name = summary["name"]
        details = server.client.get(f"/models/{name}").json()
        assert details["nodes"] == summary["nodes"]
        labels = f'model="{name}",provider="cpu",version="1"'
        assert server.metric(f"zoo_model_nodes{{{labels}}}") == summary["nodes"]["cpu"] > 10
        most = server.metric(f'zoo_model_max_batch{{model="{name}",version="1"}}')
        assert most == summary["max_batch"]


def test_a_demanded_provider_that_is_there(tmp_path: Path) -> None:
    strict: dict[str, Any] = {
        "zoo_providers": "cpu",
        "zoo_providers_strict": "true",
        "zoo_model_settings": json.dumps({"lenet5": {"max_batch": 3}}),
        "zoo_default_model": "lenet5",
    }
    with serving(tmp_path, **strict) as server:
        assert server.classify(COFFEE).status_code == 200
        assert server.client.get("/models/lenet5").json()["max_batch"] <= 3


def test_workers_do_not_ask_again_for_what_the_parent_demanded(tmp_path: Path) -> None:
    """Each would start a process of its own for it, at its start and as a spare."""
    strict: dict[str, Any] = {"ZOO_PROVIDERS": "tensorrt,cuda", "ZOO_PROVIDERS_STRICT": "true"}
    done = subprocess.run(
        [sys.executable, "-c", "import service.app"],
        cwd=ROOT,
        env=environment(tmp_path, **strict),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("model", ["", '{"lenet5": {"providers": ["tensorrt", "cuda"]}}'])
def test_a_demanded_provider_that_is_missing_stops_the_start(model: str, tmp_path: Path) -> None:
    wanted = {"ZOO_PROVIDERS": "tensorrt,cuda"} if not model else {"ZOO_MODEL_SETTINGS": model}
    done = subprocess.run(
        command(free_port()),
        cwd=ROOT,
        env=environment(tmp_path, ZOO_PROVIDERS_STRICT="true", **wanted),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode != 0
    assert done.stderr.startswith(
        "bad setting ZOO_PROVIDERS_STRICT=true: execution provider tensorrt is not in this "
        "onnxruntime (it has "
    )
    assert "; execution provider cuda is not in this" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_probe_that_dies_is_no_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strict_check, "__file__", "/nowhere/service/engine/strict_check.py")
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert strict_check._ask(["cuda"]) == {
        "cuda": "ended the process that tried it (1): without a word"
    }
