"""OpenVINO computes what was proved, on the CPU alone; bfloat16 only where the CPU has it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from export.data.digits import split
from export.precision import add, int8
from loadtests.harness.server import free_port
from service.config import settings
from service.engine.model import Model
from service.engine.outputs import BrokenModelError
from service.engine.providers import available, openvino, options
from service.engine.providers.options import Wish
from service.engine.session_factory import Way, open_session, ways
from service.manifest import RefusedModelError
from service.repository import versions_on_disk
from service.repository.network import opened
from tests import capabilities
from tests.harness.edited_versions import network_manifest
from tests.paths import ROOT
from tests.photographs import CHINA, COFFEE, FLOWER, PHOTOGRAPHS, ROCKET
from tests.server import Server, command, environment, serving

LITE0 = ROOT / "models" / "efficientnet_lite0" / "1"
LENET5 = ROOT / "models" / "lenet5" / "1"
TOLERANCE = 1e-4
"""Of the proof of every model: max |dp|."""
WITHOUT_BF16 = "flags\t\t: fpu sse4_2 avx2 avx512f avx512bw avx512_vnni\n"

needs_bf16 = pytest.mark.needs("bf16")


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    capabilities.demand("openvino")
    folder = tmp_path_factory.mktemp("openvino")
    with serving(folder, zoo_providers="openvino,cpu", zoo_providers_strict="true") as running:
        yield running


@pytest.fixture(scope="module")
def brains(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded models, LeNet-5 with a file in bfloat16."""
    capabilities.demand("bf16")
    models = tmp_path_factory.mktemp("brains") / "models"
    shutil.copytree(LITE0, models / "efficientnet_lite0" / "1")
    shutil.copytree(LENET5, models / "lenet5" / "1")
    with pytest.MonkeyPatch.context() as few:
        few.setattr(int8, "CALIBRATION_CROPS", 64)
        few.setattr(add, "_TUNING_CROPS", 60)
        few.setattr(add, "CROPS", 120)
        add.add(models, "lenet5", "bf16", options=add.Options(target=0.9))
    return models


@pytest.fixture(scope="module")
def brain(tmp_path_factory: pytest.TempPathFactory, brains: Path) -> Iterator[Server]:
    with serving(
        tmp_path_factory.mktemp("bf16"),
        zoo_models=brains,
        zoo_providers="openvino,cpu",
        zoo_precision="bf16",
        zoo_default_model="lenet5",
    ) as running:
        yield running


def probabilities(server: Server, picture: Path, **query: Any) -> np.ndarray:
    """All classes of the default model, by index."""
    answer = server.classify(picture, top_k=1000, **query).json()
    found = np.zeros(1000)
    for row in answer["predictions"]:
        found[row["index"]] = row["probability"]
    return found


def test_single_precision_is_what_was_proved(server: Server, single: Server) -> None:
    for picture in PHOTOGRAPHS:
        expected, found = (probabilities(one, picture) for one in (server, single))
        assert np.abs(found - expected).max() <= TOLERANCE
    for protocol in ("ten_crop", "crops_144"):
        expected, found = (
            probabilities(one, ROCKET, protocol=protocol) for one in (server, single)
        )
        assert np.abs(found - expected).max() <= TOLERANCE


def test_the_server_shows_that_openvino_computes(single: Server) -> None:
    shown = single.client.get("/models/efficientnet_lite0").json()
    assert shown["providers"] == ["openvino", "cpu"]
    assert set(shown["nodes"]) == {"openvino"}
    assert shown["nodes"]["openvino"] > 50
    assert (shown["precision"], shown["max_batch"]) == ("fp32", 1)
    assert list(shown["batch_ms_per_crop"]) == ["1"]


def test_many_at_once_get_their_own_answers(single: Server) -> None:
    pictures = (COFFEE, CHINA, FLOWER)
    alone = [probabilities(single, picture) for picture in pictures]
    with ThreadPoolExecutor(12) as pool:
        found = list(pool.map(lambda n: probabilities(single, pictures[n % 3]), range(60)))
    for number, given in enumerate(found):
        np.testing.assert_allclose(given, alone[number % 3], atol=1e-6)


@pytest.mark.needs("openvino")
def test_it_computes_on_the_cpu_by_a_stream_per_core_and_in_single_precision() -> None:
    assert openvino.device().ep_metadata["ov_device"] == "CPU"
    assert options.openvino(3) == {
        "load_config": '{"CPU": {"NUM_STREAMS": "3", "INFERENCE_NUM_THREADS": 3, '
        '"INFERENCE_PRECISION_HINT": "f32", "ENABLE_CPU_PINNING": false}}'
    }


def test_openvino_shares_a_session_with_the_cpu_alone() -> None:
    wish = Wish("0" * 64, (28, 28, 1), "fp32", (1, 2), graphs=False)
    assert ways(("cuda", "openvino", "cpu"), wish) == [
        Way(("cuda", "cpu")),
        Way(("openvino", "cpu")),
        Way(("cpu",)),
    ]
    brain = Wish("0" * 64, (28, 28, 1), "bf16", (1, 2))
    assert ways(("cuda", "openvino", "cpu"), brain) == [Way(("openvino", "cpu"))]


def test_a_graph_of_any_size_is_not_compiled_for_each(tmp_path: Path) -> None:
    any_size = Wish("0" * 64, (32, 32, 1), "fp32", ())
    opened = open_session(LENET5 / "model.onnx", ("openvino", "cpu"), any_size, tmp_path)
    assert opened.way == Way(("cpu",))
    assert opened.session.get_providers() == ["CPUExecutionProvider"]


@pytest.fixture
def hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the package is not installed."""
    monkeypatch.setitem(sys.modules, "onnxruntime_ep_openvino", None)


@pytest.mark.usefixtures("hidden")
def test_without_the_package_the_next_provider_computes(caplog: pytest.LogCaptureFixture) -> None:
    available._warned.clear()
    assert available.choose(("openvino", "cpu")) == ["cpu"]
    assert len(caplog.records) == 1
    assert "the extra `openvino`); falling back to cpu" in caplog.text
    with pytest.raises(BrokenModelError, match="execution provider openvino is not installed"):
        available.choose(("openvino",), strict=True)


def test_without_the_package_strictness_stops_the_start(tmp_path: Path) -> None:
    hide = "import sys; sys.modules['onnxruntime_ep_openvino'] = None\n"
    (tmp_path / "sitecustomize.py").write_text(hide)
    wanted = {"ZOO_PROVIDERS": "openvino", "ZOO_PROVIDERS_STRICT": "true"}
    done = subprocess.run(
        command(free_port()),
        cwd=ROOT,
        env=environment(tmp_path, PYTHONPATH=f"{tmp_path}:{ROOT}", **wanted),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode != 0
    assert done.stderr == (
        "bad setting ZOO_PROVIDERS_STRICT=true: execution provider openvino is not installed (the "
        "package onnxruntime-ep-openvino, by the extra `openvino`)\n"
    )


def test_a_cpu_without_bfloat16_is_told_by_its_flags(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(WITHOUT_BF16)
    assert openvino.no_bf16(cpuinfo) == "this CPU has neither AMX-BF16 nor AVX512-BF16"
    assert openvino.no_bf16(tmp_path / "none") is not None


@needs_bf16
def test_bfloat16_is_computed_and_says_the_same(server: Server, brain: Server) -> None:
    shown = brain.client.get("/models/lenet5").json()
    assert (shown["precision"], shown["graphs"]) == ("bf16", {"model": "bf16"})
    assert shown["providers"] == ["openvino", "cpu"]
    assert set(shown["nodes"]) == {"openvino"}
    differences = []
    for digit in split()[1].pictures[:40]:
        expected, found = (chances(one, digit) for one in (server, brain))
        assert max(expected, key=expected.__getitem__) == max(found, key=found.__getitem__)
        differences.append(max(abs(found[label] - expected[label]) for label in expected))
    assert 1e-5 < max(differences) < 0.05  # not single precision in silence


def chances(server: Server, digit: bytes) -> dict[str, float]:
    """The probability of every digit."""
    answer = server.classify(digit, model="lenet5", top_k=10).json()
    return {row["label"]: row["probability"] for row in answer["predictions"]}


@needs_bf16
def test_a_model_without_bfloat16_is_refused_by_name(brain: Server) -> None:
    models = brain.client.get("/models").json()["models"]
    refused = {model["name"]: model for model in models}["efficientnet_lite0"]
    assert refused["reason"] == "the precision bf16 is asked for, it has fp32"


@needs_bf16
def test_bfloat16_without_openvino_is_refused(
    monkeypatch: pytest.MonkeyPatch, brains: Path
) -> None:
    with pytest.raises(RefusedModelError, match="by openvino alone, and the providers that work"):
        load(monkeypatch, brains, "cpu")


@needs_bf16
def test_bfloat16_on_another_cpu_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, brains: Path
) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(WITHOUT_BF16)
    monkeypatch.setattr(openvino, "CPUINFO", cpuinfo)
    with pytest.raises(RefusedModelError, match="alone, and this CPU has neither AMX-BF16 nor"):
        load(monkeypatch, brains, "openvino,cpu")


def load(monkeypatch: pytest.MonkeyPatch, models: Path, chosen: str) -> Model:
    monkeypatch.setenv("ZOO_MODELS", str(models))
    monkeypatch.setenv("ZOO_PROVIDERS", chosen)
    monkeypatch.setenv("ZOO_PRECISION", "bf16")
    loaded = settings.load()
    found = next(f for f in versions_on_disk.find(loaded.models) if f.name == "lenet5")
    return opened(found, network_manifest(found), loaded)


@needs_bf16
def test_onnx_runtime_itself_cannot_open_the_file_and_never_pretends(brains: Path) -> None:
    file = brains / "lenet5" / "1" / "model.bf16.onnx"
    with pytest.raises(Exception, match="NOT_IMPLEMENTED"):
        onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
