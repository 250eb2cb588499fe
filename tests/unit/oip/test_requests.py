"""Inference requests on a data plane without a server: what they get, what they are refused."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pytest

from loadtests.harness import marked
from service.dataplane.dataplane import DataPlane
from service.errors import BadParameter, DeadlineExceeded
from service.telemetry import version_stats
from service.transports.oip import server
from service.transports.oip.inference import Request, Response, infer
from service.transports.oip.parameters import RequestedOutput
from service.transports.oip.tensors import Tensor
from tests.harness.planes import PICTURE, slowed, started

IMAGE = Tensor("image", "BYTES", (1,), [PICTURE])
SLOW_S = 1.0


@pytest.fixture
async def plane(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[DataPlane]:
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    monkeypatch.setattr(version_stats, "_records", {})
    path = marked.add(tmp_path, "default", 1) / "manifest.json"
    content = json.loads(path.read_text())
    content["protocols"]["supported"].append({"name": "ten_crop", "scales": []})
    path.write_text(json.dumps(content))
    async with started(tmp_path) as running:
        yield running


async def ask(
    plane: DataPlane,
    *outputs: RequestedOutput,
    model: str = "default",
    seconds: float = 30,
    **more: Any,
) -> Response:
    given = {"inputs": [IMAGE], "outputs": outputs, **more}
    deadline = perf_counter() + seconds
    return await infer(plane, Request(model, None, **given), transport="test", deadline=deadline)


async def test_classes_as_text_are_value_index_and_name(plane: DataPlane) -> None:
    (best,) = (await ask(plane, RequestedOutput("probabilities", 3))).outputs
    assert (best.name, best.datatype, best.shape) == ("probabilities", "BYTES", (1, 3))
    first = bytes(best.data[0]).decode()
    assert first == f"{1:f}:1:{marked.label(1, 1)}"
    (every,) = (await ask(plane, RequestedOutput("probabilities", 10_000))).outputs
    assert every.shape == (1, 10)  # as many as there are
    indices = [int(bytes(text).decode().split(":")[1]) for text in every.data]
    assert sorted(indices) == list(range(10))


@pytest.mark.parametrize(
    ("outputs", "parameters", "words"),
    [
        (["probabilities", "probabilities"], {}, "an output is requested twice"),
        (["scores"], {}, "has no output 'scores'; it has: probabilities, logits"),
        (["logits"], {"protocol": "ten_crop"}, "logits are of one crop, and protocol 'ten_crop'"),
        (["probabilities"], {"top_k": 3}, "top_k goes with NAME.topk"),
    ],
)
async def test_outputs_that_cannot_be_had(
    plane: DataPlane, outputs: list[str], parameters: dict[str, Any], words: str
) -> None:
    with pytest.raises(BadParameter, match=words):
        await ask(plane, *map(RequestedOutput, outputs), parameters=parameters)


async def test_a_request_can_shorten_its_time_and_not_lengthen_it(plane: DataPlane) -> None:
    await slowed(plane, "default", SLOW_S)
    for seconds, timeout_s in ((0.2, 60), (60, 0.2)):
        begun = perf_counter()
        with pytest.raises(DeadlineExceeded):
            await ask(plane, seconds=seconds, parameters={"timeout": int(1e6 * timeout_s)})
        assert perf_counter() - begun >= 0.2
    assert (await ask(plane, seconds=60, parameters={"timeout": 0})).version == "1"


async def test_failures_are_in_the_statistics(plane: DataPlane) -> None:
    await ask(plane)
    for _ in range(2):
        with pytest.raises(BadParameter):
            await ask(plane, parameters={"protocol": "nothing"})
        with pytest.raises(Exception, match="picture 0: "):
            await ask(plane, inputs=[Tensor("image", "BYTES", (1,), [b"no picture"])])
    (stats,) = await server.model_statistics(plane, "default", None)
    durations: dict[str, Any] = {**stats["inference_stats"]}
    counts = {name: each["count"] for name, each in durations.items()}
    assert (counts["success"], counts["fail"], stats["inference_count"]) == (1, 2, 1)
    assert stats["inference_stats"]["fail"]["ns"] > 0


async def test_the_vectors_are_in_the_order_of_the_classes(plane: DataPlane) -> None:
    probabilities, logits = (
        await ask(plane, RequestedOutput("probabilities"), RequestedOutput("logits"))
    ).outputs
    assert probabilities.shape == logits.shape == (1, 10)
    assert np.asarray(probabilities.data).argmax() == np.asarray(logits.data).argmax() == 1
    assert np.asarray(probabilities.data).sum() == pytest.approx(1)
