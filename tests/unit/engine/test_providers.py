"""Which providers run: what is missing is passed over, or demanded; what runs is shown."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from service.config import settings
from service.engine.admission import Admission
from service.engine.deadlines import Deadlines
from service.engine.model import Model
from service.engine.outputs import BrokenModelError
from service.engine.pool import Pool
from service.engine.providers import available as providers
from service.engine.providers.options import Wish
from service.engine.session import Session
from service.engine.session_factory import Way, open_session, provider_options, ways
from service.manifest import Manifest
from service.repository import versions_on_disk
from service.repository.network import opened
from service.telemetry.model_metrics import ModelObserver
from tests.harness.edited_versions import network_manifest
from tests.paths import ROOT

LENET5 = ROOT / "models" / "lenet5" / "1"
WISH = Wish("0" * 64, (28, 28, 1), "fp32", (1, 2))


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


def test_auto_is_the_cpu_here_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    assert providers.choose(()) == ["cpu"]
    assert not caplog.records


def test_what_this_onnxruntime_lacks_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        assert providers.choose(("tensorrt", "cpu")) == ["cpu"]
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    words = "execution provider tensorrt is not in this onnxruntime (it has "
    assert words in caplog.text
    assert "falling back to cpu" in caplog.text
    # another model names it too, with others
    assert providers.choose(("cuda", "tensorrt")) == ["cpu"]
    assert [record.getMessage().count("tensorrt") for record in caplog.records] == [1, 0]


def test_several_missing_providers_are_one_line(caplog: pytest.LogCaptureFixture) -> None:
    assert providers.choose(("tensorrt", "cuda")) == ["cpu"]
    assert len(caplog.records) == 1
    assert caplog.text.count("is not in this onnxruntime") == 2


@pytest.mark.usefixtures("listed")
def test_what_is_listed_and_does_not_work_is_noticed(caplog: pytest.LogCaptureFixture) -> None:
    assert providers.choose(()) == ["cpu"]
    assert "execution provider cuda cannot be used: " in caplog.text
    assert "libonnxruntime_providers_cuda.so" in caplog.text
    with pytest.raises(BrokenModelError, match="execution provider cuda cannot be used"):
        providers.choose(("cuda", "cpu"), strict=True)


def test_the_order_is_kept_and_the_cpu_is_last(monkeypatch: pytest.MonkeyPatch) -> None:
    names = list(providers.ORT_NAMES.values())
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: names)
    monkeypatch.setattr(providers, "_failure", lambda name: None)
    assert providers.choose(("cuda", "cpu", "tensorrt")) == ["cuda", "tensorrt", "cpu"]
    assert providers.choose(()) == ["cuda", "cpu"]
    assert providers.choose(("tensorrt",), strict=True) == ["tensorrt", "cpu"]


def test_the_ways_fall_back_in_order() -> None:
    assert ways(("tensorrt", "cuda", "cpu"), WISH) == [
        Way(("tensorrt", "cuda", "cpu"), profile={"pixels": (28, 28, 1)}),
        Way(("tensorrt", "cuda", "cpu")),
        Way(("cuda", "cpu"), graphs=True),
        Way(("cuda", "cpu")),
        Way(("cpu",)),
    ]
    any_size = Wish("0" * 64, (28, 28, 1), "fp32", ())
    assert ways(("tensorrt", "cuda", "cpu"), any_size) == [Way(("cuda", "cpu")), Way(("cpu",))]


def test_graphs_are_recorded_in_one_way_only() -> None:
    cuda = [
        provider_options("cuda", way, WISH, None)["enable_cuda_graph"]
        for way in ways(("tensorrt", "cuda", "cpu"), WISH)
        if "cuda" in way.providers
    ]
    assert cuda == ["0", "0", "1", "0"]


@pytest.mark.usefixtures("listed")
def test_a_session_without_what_was_asked_for_falls_back(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    file = LENET5 / "model.onnx"
    opened = open_session(file, ("tensorrt", "cuda", "cpu"), WISH, tmp_path)
    assert opened.way == Way(("cpu",))
    assert opened.session.get_providers() == ["CPUExecutionProvider"]
    assert len(caplog.records) == 1
    assert "lenet5 runs on cpu: tensorrt: onnxruntime left it out; cuda: " in caplog.text
    with pytest.raises(BrokenModelError, match=r"model\.onnx: onnxruntime left it out"):
        open_session(file, ("cuda", "cpu"), WISH, tmp_path, strict=True)


def test_a_refused_profile_is_asked_again_by_the_name_that_it_wants(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[str | None] = []

    class Refusing:
        """ONNX Runtime as it answers where TensorRT left the first Transpose to CUDA."""

        def __init__(self, path: object, session: object, providers: list, **_: Any) -> None:
            options = dict(providers).get("TensorrtExecutionProvider", {})
            asked.append(options.get("trt_profile_max_shapes"))
            if options.get("trt_profile_max_shapes", "").startswith("pixels"):
                raise RuntimeError(
                    "User needs to provide all the dynamic shape inputs with associated profiles\n"
                    "Following input(s) has no associated shape profiles provided: permute"
                )
            self.get_providers = lambda: [name for name, _ in providers]

    monkeypatch.setattr(onnxruntime, "InferenceSession", Refusing)
    opened = open_session(LENET5 / "model.onnx", ("tensorrt", "cpu"), WISH, tmp_path)
    assert asked == ["pixels:2x28x28x1", "permute:2x1x28x28"]
    assert opened.way == Way(("tensorrt", "cpu"), profile={"permute": (1, 28, 28)})
    engines = next(tmp_path.rglob(".lock")).parent
    assert "0" * 32 in engines.name


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "/onnxruntime_src/onnxruntime/core/providers/cuda/cuda_call.cc:154 void onnxruntime::"
            "CudaCall(int) [with ERRTYPE = cudaError] /onnxruntime_src/cuda_call.cc:146 CUDA "
            "failure 35: CUDA driver version is insufficient ; GPU=-1 ; hostname=a ; file=b\nmore",
            "CUDA failure 35: CUDA driver version is insufficient",
        ),
        (
            "/onnxruntime_src/onnxruntime/core/a.cc:63 static a::B a::B::C(const D&) "
            '[ONNXRuntimeError] : 1 : FAIL : Unknown provider option: "bogus".',
            '[ONNXRuntimeError] : 1 : FAIL : Unknown provider option: "bogus".',
        ),
        ("/models/a/1/model.onnx is empty", "/models/a/1/model.onnx is empty"),
        ("", "RuntimeError"),
    ],
)
def test_errors_are_told_without_the_places_in_the_source(text: str, line: str) -> None:
    assert providers.first_line(RuntimeError(text)) == line


def test_a_broken_file_is_broken_with_every_provider(tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(b"no onnx")
    with pytest.raises(BrokenModelError, match=r"model\.onnx: .*Protobuf parsing failed"):
        open_session(file, ("cpu",), WISH, tmp_path)


@pytest.mark.parametrize(("operator", "sums"), [("Softmax", True), ("Sigmoid", False)])
def test_probabilities_that_do_not_add_up_are_refused(
    operator: str, sums: bool, tmp_path: Path
) -> None:
    manifest = versions_on_disk.read(versions_on_disk.Version("lenet5", "1", LENET5))
    assert isinstance(manifest, Manifest)
    model = onnx.load(LENET5 / "model.onnx")
    (last,) = (node for node in model.graph.node if "probabilities" in node.output)
    assert last.op_type == "Softmax"
    last.op_type = operator
    if operator == "Sigmoid":
        del last.attribute[:]
    onnx.save(model, tmp_path / "model.onnx")
    session = Session(tmp_path / "model.onnx", manifest, ("cpu",))
    refusal = pytest.raises(BrokenModelError, match=r"probabilities of .* do not add up to 1")
    with nullcontext() if sums else refusal:
        session.warm_up(2)


def test_a_model_knows_where_its_nodes_run(monkeypatch: pytest.MonkeyPatch) -> None:
    own = '{"lenet5": {"max_batch": 6, "providers": ["cuda", "cpu"]}}'
    monkeypatch.setenv("ZOO_MODEL_SETTINGS", own)
    loaded = settings.load()
    found = next(f for f in versions_on_disk.find(loaded.models) if f.name == "lenet5")
    model = opened(found, network_manifest(found), loaded)
    assert model.providers == ["cpu"]
    assert model.max_batch <= 6
    assert set(model.nodes) == {"cpu"}
    assert model.nodes["cpu"] > 10


class ShortOfMemory:
    """The real session, on a device with room for two crops."""

    def __init__(self, real: Any) -> None:
        self._real = real

    def run(self, names: list[str], feed: dict[str, np.ndarray], options: Any = None) -> Any:
        if len(feed["pixels"]) > 2:
            raise RuntimeError("Failed to allocate memory for requested buffer of size 939524096")
        return self._real.run(names, feed, options)


async def test_a_device_short_of_memory_lowers_the_batches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ZOO_MAX_BATCH", "8")
    loaded = settings.load()
    found = next(f for f in versions_on_disk.find(loaded.models) if f.name == "lenet5")
    model = opened(found, network_manifest(found), loaded)
    inner = model._sessions["model"]
    crops = np.random.default_rng(0).integers(0, 256, (8, *inner_shape(model)), dtype=np.uint8)
    wanted = inner.run(crops)
    inner._session = ShortOfMemory(inner._session)
    model.max_batch = 8  # whatever was learnt
    pool = Pool(1, "test")
    model.open(pool, ModelObserver("lenet5", "1"))
    admission = Admission(8, lambda _: None)
    with admission.acquire(8) as permit:
        end = perf_counter() + 60
        answer = await model.batchers["model"].infer(crops, permit, end, Deadlines())
    np.testing.assert_allclose(answer.outputs.logits, wanted.logits, atol=1e-5)
    assert model.max_batch == model.batchers["model"].max_batch == 2
    await model.close()
    pool.close()


def inner_shape(model: Model) -> tuple[int, int, int]:
    size = model.manifest.input
    return size.height, size.width, size.channels
