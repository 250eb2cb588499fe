"""Padded batches through fixed buffers, with host memory in the device's place."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import onnxruntime
import pytest

from service.engine import session, session_factory
from service.engine.gpu import cuda
from service.engine.gpu.graph_gate import Gate
from service.engine.gpu.lanes import HostMemory, Lanes
from service.engine.outputs import BrokenModelError
from service.engine.providers.options import buckets
from service.engine.session import Session
from service.engine.session_factory import Opened, Way
from service.imaging.crops import Crops
from service.manifest import Manifest
from tests.paths import ROOT

FOLDER = ROOT / "models" / "lenet5" / "1"
MANIFEST = Manifest.model_validate_json((FOLDER / "manifest.json").read_text())
CROP = (MANIFEST.input.height, MANIFEST.input.width, MANIFEST.input.channels)


@pytest.fixture(scope="module")
def network() -> Any:
    return onnxruntime.InferenceSession(FOLDER / "model.onnx", providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def lanes(network: Any) -> Iterator[Lanes]:
    made = Lanes(
        dict.fromkeys(buckets(12), network),
        HostMemory(),
        crop=CROP,
        classes=10,
        graphs=True,
        count=3,
    )
    yield made
    made.close()


def random_crops(count: int, seed: int) -> Crops:
    return np.random.default_rng(seed).integers(0, 256, (count, *CROP), dtype=np.uint8)


def expected(network: Any, crops: Crops) -> tuple[np.ndarray, np.ndarray]:
    """One crop at a time: nothing of another crop can be in there."""
    rows = [network.run(["probabilities", "logits"], {"pixels": crop[None]}) for crop in crops]
    probabilities, logits = (np.concatenate(values) for values in zip(*rows, strict=True))
    return probabilities, logits


@pytest.mark.parametrize("count", range(1, 13))
def test_padding_is_cut_off(network: Any, lanes: Lanes, count: int) -> None:
    crops = random_crops(count, count)
    outputs = lanes.run(crops)
    for values, wanted in zip(outputs, expected(network, crops), strict=True):
        assert values.shape == (count, 10)
        np.testing.assert_allclose(values, wanted, atol=1e-5)


def test_answers_never_cross_nor_change_later(network: Any, lanes: Lanes) -> None:
    gate = threading.Barrier(8)

    def ask(seed: int) -> None:
        gate.wait()
        kept = []
        for turn in range(25):
            crops = random_crops(1 + (seed * 7 + turn * 5) % 12, 100 * seed + turn)
            kept.append((crops, lanes.run(crops)))
        for crops, outputs in kept:
            np.testing.assert_allclose(outputs.logits, expected(network, crops)[1], atol=1e-4)

    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(ask, seed) for seed in range(8)]:
            done.result()


def test_each_size_of_each_lane_has_a_graph_and_a_thread_of_its_own(network: Any) -> None:
    class Watched:
        """Notes by which thread and with which graph each run is done."""

        def __init__(self) -> None:
            self.runs: list[tuple[int, str, list[int]]] = []

        def io_binding(self) -> Any:
            return network.io_binding()

        def run_with_iobinding(self, binding: Any, options: Any) -> None:
            graph = options.get_run_config_entry("gpu_graph_id")
            network.run_with_iobinding(binding, options)
            shape = binding.get_outputs()[0].shape()
            self.runs.append((threading.get_ident(), graph, shape))

    watched = Watched()
    sessions = dict.fromkeys((1, 2, 4), watched)
    made = Lanes(sessions, HostMemory(), crop=CROP, classes=10, graphs=True)
    for size in (4, 2, 1):
        assert len(made.warm_up(random_crops(size, size))) == 4  # 2 lanes, twice
    runs = {(thread, graph, tuple(shape)) for thread, graph, shape in watched.runs}
    recorded = {run for run in runs if run[1] != "-1"}
    assert len(runs) == 2 * len(recorded) == 12  # each once without a graph before
    assert len({thread for thread, _, _ in recorded}) == 2
    assert len({graph for _, graph, _ in recorded}) == 6
    watched.runs.clear()
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda n: made.run(random_crops(1 + n % 4, n)), range(60)))
    later = {(thread, graph, tuple(shape)) for thread, graph, shape in watched.runs}
    assert later <= recorded  # nothing is recorded on a request
    made.close()


def test_a_failed_run_frees_its_lane(network: Any) -> None:
    sessions = {1: network, 2: network}
    made = Lanes(sessions, HostMemory(), crop=CROP, classes=10, graphs=False, count=1)
    for _ in range(3):
        with pytest.raises(ValueError, match="3 crops are more than 2"):
            made.run(random_crops(3, 0))
    assert len(made.run(random_crops(2, 0)).logits) == 2
    made.close()


@pytest.fixture
def as_if_on_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """A session is as it is on a GPU, but for the memory."""
    real = session_factory.open_session

    def opened(*arguments: Any, **named: Any) -> Opened:
        return Opened(real(*arguments, **named).session, Way(("cuda", "cpu"), graphs=True))

    monkeypatch.setattr(session, "open_session", opened)
    monkeypatch.setattr(cuda, "CudaMemory", HostMemory)


@pytest.mark.usefixtures("as_if_on_cuda")
def test_a_session_on_a_gpu_goes_through_lanes(network: Any) -> None:
    made = Session(FOLDER / "model.onnx", MANIFEST, ["cpu"], max_batch=6)
    assert made.sizes == (6, 1, 2, 4)
    assert made.at_once == 2
    for size in made.sizes:
        made.warm_up(size)
    crops = random_crops(5, 5)
    np.testing.assert_allclose(made.run(crops).logits, expected(network, crops)[1], atol=1e-4)
    made.close()


@pytest.mark.parametrize(("graphs", "most"), [(True, 1), (False, 2)])
def test_graphs_of_a_session_are_replayed_one_after_the_other(
    network: Any, graphs: bool, most: int
) -> None:
    """They share the memory between input and output."""
    both = threading.Barrier(2)

    class Counting:
        def __init__(self) -> None:
            self.under_way = self.most = 0
            self.lock = threading.Lock()

        def io_binding(self) -> Any:
            return network.io_binding()

        def run_with_iobinding(self, binding: Any, options: Any) -> None:
            with self.lock:
                self.under_way += 1
                self.most = max(self.most, self.under_way)
            if graphs:
                time.sleep(0.01)  # time for another one to come in
            else:
                both.wait(10)
            network.run_with_iobinding(binding, options)
            with self.lock:
                self.under_way -= 1

    session = Counting()
    sessions = {1: session, 2: session}
    made = Lanes(sessions, HostMemory(), crop=CROP, classes=10, graphs=graphs, count=2)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda seed: made.run(random_crops(2, seed)), range(8)))
    made.close()
    assert session.most == most


def test_a_graph_that_was_harmed_is_found(network: Any) -> None:
    """As seen on a GPU: a graph of a size gave wrong answers once others were recorded."""

    class Harmed:
        def __init__(self, ids: set[str], factor: float) -> None:
            self.ids, self.factor = ids, factor

        def io_binding(self) -> Any:
            return network.io_binding()

        def run_with_iobinding(self, binding: Any, options: Any) -> None:
            network.run_with_iobinding(binding, options)
            if options.get_run_config_entry("gpu_graph_id") in self.ids:
                for value in binding.get_outputs():
                    value.numpy()[...] *= self.factor

    crops = random_crops(4, 0)
    cases: list[tuple[set[str], float, bool]] = [
        *((set(), 0.5, False), ({"3"}, 0.5, True), ({"3"}, np.nan, True), ({"3"}, np.inf, True))
    ]
    for ids, factor, harmed in cases:
        sessions = dict.fromkeys((1, 2, 4), Harmed(ids, factor))
        made = Lanes(sessions, HostMemory(), crop=CROP, classes=10, graphs=True)
        assert (made.disagreement(crops) > session.MOST_OFF) is harmed
        made.close()


@pytest.mark.usefixtures("as_if_on_cuda")
def test_a_session_whose_graphs_are_wrong_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Session(FOLDER / "model.onnx", MANIFEST, ["cpu"], max_batch=2)
    made.verify()
    monkeypatch.setattr(Lanes, "disagreement", lambda *_: 0.5)
    with pytest.raises(BrokenModelError, match=r"CUDA graphs are 0\.5 standard deviations off"):
        made.verify()
    made.close()


def test_a_recording_is_alone() -> None:
    gate, inside, met = Gate(), 0, []
    lock = threading.Lock()

    def work(number: int) -> None:
        nonlocal inside
        if number % 5 == 0:
            with gate.alone():
                met.append(inside)
                time.sleep(0.002)
                met.append(inside)
        else:
            with gate.beside():
                with lock:
                    inside += 1
                time.sleep(0.001)
                with lock:
                    inside -= 1

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(200)))
    assert met == [0] * 80
