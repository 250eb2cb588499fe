"""openapi-python-client writes a client from /openapi.json without a warning, and it works."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.paths import ROOT
from tests.server import Server

# the generator formats what it wrote by the ruff beside it
PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
SECONDS = 120


def run(*arguments: str, **environment: str) -> str:
    """What a module prints, on both streams where it fails."""
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        env={**os.environ, "PATH": PATH, **environment},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def generated(server: Server, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder that has the package, and what the generator printed."""
    folder = tmp_path_factory.mktemp("generated")
    config = folder / "config.json"
    config.write_text(json.dumps({"package_name_override": "zoo_client"}))
    printed = run(
        *("openapi_python_client", "generate", "--url", f"{server.url}/openapi.json"),
        *("--output-path", str(folder / "project"), "--config", str(config)),
    )
    return folder / "project", printed


@pytest.fixture(scope="module")
def answers(generated: tuple[Path, str], server: Server, folder: Path) -> dict[str, Any]:
    """What each call got."""
    picture = str(folder / "coffee.jpg")
    of_package = os.pathsep.join((str(generated[0]), str(ROOT)))
    calls = "tests.clients.generated.calls"
    return json.loads(run(calls, server.url, picture, PYTHONPATH=of_package))


def types(answers: dict[str, Any], *calls: str) -> list[str]:
    return [answers[call]["type"] for call in calls]


def test_the_generator_has_no_complaint(generated: tuple[Path, str]) -> None:
    folder, printed = generated
    assert printed == f"Generating {folder}\n"


def test_pictures(answers: dict[str, Any]) -> None:
    assert types(answers, "octet-stream", "two classes", "one in a form") == ["Classification"] * 3
    content = answers["octet-stream"]["content"]
    assert [each["label"] for each in content["predictions"]][:1] == ["espresso"]
    assert answers["octet-stream"]["lists"] == {"predictions": ["Prediction"] * 2}
    assert types(answers, "form") == ["Classifications"]
    assert answers["form"]["lists"] == {"results": ["Classification", "FailedPicture"]}
    assert types(answers, "no picture", "no model") == ["Problem"] * 2
    assert answers["no model"]["content"]["code"] == "unknown_model"


def test_models(answers: dict[str, Any]) -> None:
    assert types(answers, "models", "model") == ["ModelList", "ServedNetworkDetails"]
    assert set(answers["models"]["lists"]["models"]) <= {"ServedNetwork", "ServedEnsemble"}
    assert answers["model"]["lists"]["versions"] == ["ServedNetwork"]
    assert answers["model"]["content"]["manifest"]["name"] == "efficientnet_lite0"
    assert types(answers, "unknown model") == ["Problem"]


def test_health(answers: dict[str, Any]) -> None:
    assert types(answers, "live", "ready", "oip live") == ["Liveness", "Readiness", "OipLive"]
    assert types(answers, "with a key") == ["Liveness"]  # no key is asked for
    assert answers["ready"]["content"]["status"] == "ready"


def test_the_inference_protocol(answers: dict[str, Any]) -> None:
    assert types(answers, "server", "metadata", "config", "statistics") == [
        "OipServer",
        "OipModel",
        "OipConfig",
        "OipStatistics",
    ]
    assert answers["metadata"]["lists"]["outputs"] == ["OipTensor"] * 3
    assert answers["statistics"]["lists"] == {"model_stats": ["OipModelStatistics"]}
    assert types(answers, "infer", "raw") == ["OipResponse"] * 2
    outputs = {output["name"]: output for output in answers["infer"]["content"]["outputs"]}
    assert outputs["labels"]["data"][0] == "espresso"
    [vector] = answers["raw"]["content"]["outputs"]
    assert (vector["name"], len(vector["data"])) == ("probabilities", 1000)
    assert types(answers, "bad infer", "index") == ["OipProblem"] * 2
    assert answers["bad infer"]["content"]["error"]
    assert answers["index"]["content"]["code"] == "management_closed"
