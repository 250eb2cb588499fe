"""The service on a real NVIDIA GPU: `pytest -m gpu`. Everywhere else they are skipped."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loadtests.harness.server import free_port
from service.engine.failures import EXIT_CODE
from tests.paths import ROOT
from tests.photographs import CHELSEA, CHINA, COFFEE, FLOWER, ROCKET
from tests.server import Server, command, environment, serving

pytestmark = [pytest.mark.gpu, pytest.mark.needs("gpu")]
PICTURES = (CHELSEA, COFFEE, ROCKET, FLOWER, CHINA)
CUDA: dict[str, Any] = {"zoo_providers": "cuda,cpu", "zoo_providers_strict": "true"}


@pytest.fixture(scope="module")
def gpu(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("gpu")
    with serving(folder, **CUDA, zoo_management="true") as running:
        yield running


@pytest.fixture(scope="module")
def cpu(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("cpu"), zoo_providers="cpu") as running:
        yield running


def probabilities(server: Server, picture: Path, **query: Any) -> np.ndarray:
    answer = server.classify(picture, top_k=1000, **query)
    assert answer.status_code == 200, answer.text
    rows = sorted(answer.json()["predictions"], key=lambda row: row["index"])
    return np.array([row["probability"] for row in rows])


@pytest.mark.parametrize("protocol", ["center", "ten_crop"])
@pytest.mark.parametrize("picture", PICTURES, ids=lambda path: path.stem)
def test_the_gpu_answers_as_the_cpu_does(
    gpu: Server, cpu: Server, picture: Path, protocol: str
) -> None:
    ours = probabilities(gpu, picture, protocol=protocol)
    np.testing.assert_allclose(ours, probabilities(cpu, picture, protocol=protocol), atol=1e-4)


def test_what_runs_is_said(gpu: Server) -> None:
    model = gpu.client.get("/models/efficientnet_lite0").json()
    assert model["providers"] == ["cuda", "cpu"]
    assert model["nodes"].get("cpu", 0) == 0
    assert model["nodes"]["cuda"] > 50
    series = [
        line
        for line in gpu.client.get("/metrics").text.splitlines()
        if line.startswith("zoo_model_nodes{") and "efficientnet_lite0" in line
    ]
    assert any('provider="cuda"' in line for line in series), series


def test_answers_do_not_cross_under_load(gpu: Server) -> None:
    alone = {picture: probabilities(gpu, picture) for picture in PICTURES}

    def ask(number: int) -> float:
        picture = PICTURES[number % len(PICTURES)]
        return float(np.abs(probabilities(gpu, picture) - alone[picture]).max())

    with ThreadPoolExecutor(48) as clients:
        differences = list(clients.map(ask, range(1500)))
    assert max(differences) < 1e-4


def test_another_model_comes_and_goes_under_load(gpu: Server) -> None:
    """A load warms up and records graphs while batches of others run."""
    repository = "/v2/repository/models/lenet5"
    going, statuses = True, []

    def load(number: int) -> None:
        picture = PICTURES[number % len(PICTURES)]
        while going:
            statuses.append(gpu.classify(picture).status_code)

    with ThreadPoolExecutor(16) as clients:
        for number in range(16):
            clients.submit(load, number)
        try:
            for _ in range(4):
                assert gpu.client.post(f"{repository}/unload").status_code == 200
                assert gpu.client.post(f"{repository}/load").status_code == 200
        finally:
            going = False
    assert len(statuses) > 50
    assert set(statuses) == {200}


def test_two_workers_share_the_gpu(tmp_path: Path, cpu: Server) -> None:
    with serving(tmp_path, **CUDA, zoo_workers="2") as server:
        with ThreadPoolExecutor(16) as clients:
            found = list(clients.map(lambda _: probabilities(server, CHELSEA), range(200)))
        np.testing.assert_allclose(found, [probabilities(cpu, CHELSEA)] * 200, atol=1e-4)


def test_batches_shrink_to_the_memory_there_is(tmp_path: Path) -> None:
    limits: dict[str, Any] = {"zoo_gpu_memory_bytes": str(192 << 20), "zoo_max_batch": "256"}
    with serving(tmp_path, **CUDA, **limits) as server:
        model = server.client.get("/models/efficientnet_lite0").json()
        assert 1 <= model["max_batch"] < 256
        assert "out of memory: batches have at most" in server.log
        assert server.classify(CHELSEA, protocol="ten_crop").status_code == 200


@pytest.mark.needs("no tensorrt")
def test_tensorrt_that_was_demanded_and_is_missing_fails_the_start(tmp_path: Path) -> None:
    settings = {**CUDA, "zoo_providers": "tensorrt,cuda"}
    done = subprocess.run(
        command(free_port()),
        cwd=ROOT,
        env=environment(tmp_path, **settings),
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert done.returncode != 0
    assert "execution provider tensorrt cannot be used: libnvinfer" in done.stderr


@pytest.mark.needs("torch")
def test_a_lost_device_ends_the_process(tmp_path: Path) -> None:
    """A kernel of PyTorch fails an assertion: the context that ONNX Runtime shares is lost."""
    program = tmp_path / "lose.py"
    program.write_text(
        "import torch, numpy as np\n"
        "from pathlib import Path\n"
        "from loadtests.gpu import device\n"
        "from service.manifest import Manifest\n"
        "folder = Path('models/lenet5/1')\n"
        "manifest = Manifest.model_validate_json((folder / 'manifest.json').read_text())\n"
        f"cache = Path({str(tmp_path)!r})\n"
        "file = folder / 'model.onnx'\n"
        "session = device.open_session(file, manifest, 'cuda', (1, 4), cache)\n"
        "crops = device.crops_of(manifest.input, 4)\n"
        "session.run(crops)\n"
        "try:\n"
        "    torch.zeros(1, device='cuda')[torch.tensor([5], device='cuda')].cpu()\n"
        "except RuntimeError as error:\n"
        "    print('lost:', error, flush=True)\n"
        "session.run(crops)\n"
        "print('still there', flush=True)\n"
    )
    done = subprocess.run(
        [sys.executable, str(program)],
        cwd=ROOT,
        env=environment(tmp_path, pythonpath=os.pathsep.join([str(ROOT), *sys.path])),
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert "lost:" in done.stdout
    assert done.returncode == EXIT_CODE, done.stdout + done.stderr
