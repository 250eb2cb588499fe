from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from export.data import pictures
from export.graph import graph
from export.proof.parity import Exported, top
from export.proof.reference import Reference
from export.weights import files
from export.zoo import registry
from models import REPOSITORY
from service.manifest import Input

COMMITTED = ["efficientnet_lite0", "lenet5"]


@pytest.fixture(params=COMMITTED)
def model(request: pytest.FixtureRequest) -> onnx.ModelProto:
    return onnx.load(REPOSITORY / request.param / "1" / "model.onnx", load_external_data=False)


def test_takes_bytes_and_yields_probabilities_and_logits(model: onnx.ModelProto) -> None:
    def shape(value: onnx.ValueInfoProto) -> list[str | int]:
        dims = value.type.tensor_type.shape.dim
        return [dim.dim_param or dim.dim_value for dim in dims]

    (pixels,) = model.graph.input
    size, channels, classes = (224, 3, 1000) if "lite" in model.graph.name else (32, 1, 10)
    assert (pixels.name, shape(pixels)) == ("pixels", ["N", size, size, channels])
    assert pixels.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    names = {value.name: shape(value) for value in model.graph.output}
    assert names == {"probabilities": ["N", classes], "logits": ["N", classes]}
    kinds = {value.type.tensor_type.elem_type for value in model.graph.output}
    assert kinds == {onnx.TensorProto.FLOAT}


def test_is_tidy(model: onnx.ModelProto) -> None:
    assert model.opset_import[0].version >= 20
    operators = {node.op_type for node in model.graph.node}
    assert operators.isdisjoint({"BatchNormalization", "Identity", "Dropout", "Gather", "Range"})
    assert not any(tensor.external_data for tensor in model.graph.initializer)
    for item in (model.graph, *model.graph.node, *model.graph.initializer):
        assert not item.doc_string
        assert not item.metadata_props


def test_tells_nothing_about_where_it_was_made() -> None:
    for name in COMMITTED:
        data = (REPOSITORY / name / "1" / "model.onnx").read_bytes()
        here = (str(Path.cwd()), sys.prefix, tempfile.gettempdir(), "site-packages", ".py")
        for word in here:
            assert word.encode() not in data, (name, word)


def test_tracing_twice_gives_the_same_bytes() -> None:
    spec = registry.get("lenet5")
    network = files.load(spec, None).network
    first, second = (graph.to_onnx(network, spec.input, "lenet5") for _ in range(2))
    assert first.SerializeToString() == second.SerializeToString()


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_any_batch_gives_the_same_answers_as_single_crops(lenet5: Exported, batch: int) -> None:
    crops = np.random.default_rng(batch).integers(0, 256, (batch, 32, 32, 1), dtype=np.uint8)
    together, _ = lenet5.run(crops)
    alone = np.concatenate([lenet5.run(crop[None])[0] for crop in crops])
    assert together.shape == (batch, 10)
    assert together.sum(axis=1) == pytest.approx(1, abs=1e-6)
    assert np.abs(together - alone).max() <= 1e-6


def test_normalises_as_the_manifest_says() -> None:
    rules = Input(
        height=2,
        width=2,
        channels=3,
        color="BGR",
        rescale=0.5,
        mean=(1.0, 2.0, 3.0),
        std=(4.0, 5.0, 6.0),
    )
    pixels = torch.arange(12, dtype=torch.uint8).reshape(1, 2, 2, 3)
    planes = graph.Normalise(rules)(pixels)
    bgr = pixels.numpy()[..., ::-1].astype(np.float64)
    expected = ((bgr * 0.5 - [1, 2, 3]) / [4, 5, 6]).transpose(0, 3, 1, 2)
    assert planes.shape == (1, 3, 2, 2)
    assert np.abs(planes.numpy() - expected).max() < 1e-6


def test_a_mean_image_must_be_there() -> None:
    rules = registry.get("lenet5").input.model_copy(update={"mean_image": "mean.npy"})
    with pytest.raises(ValueError, match="mean image"):
        graph.Normalise(rules)


SEEN = {
    "chelsea.png": {"tabby", "tiger cat", "Egyptian cat"},
    "coffee.png": {"espresso"},
    "camera.png": {"tripod"},
    "rocket.jpg": {"missile"},
    "motorcycle_left.png": {"moped"},
    "china.jpg": {"palace"},
    "flower.jpg": {"daisy"},
}


def _labels() -> list[str]:
    lines = (REPOSITORY / "efficientnet_lite0" / "1" / "labels.csv").read_text("utf-8").splitlines()
    return [line.split(",", 2)[2] for line in lines[1:]]


@pytest.mark.parametrize("name", SEEN)
def test_efficientnet_lite0_says_what_is_there(name: str, lite0: Exported) -> None:
    probabilities, _ = lite0.answer(pictures.photographs()[name], "center")
    assert _labels()[top(probabilities, 1)[0]] in SEEN[name]


@pytest.mark.parametrize("name", ["efficientnet_lite1", "efficientnet_lite2"])
def test_the_other_packaged_weights_belong_where_they_were_put(name: str) -> None:
    spec = registry.get(name)
    reference = Reference(spec, files.load(spec, None).network)
    photographs = pictures.photographs()
    # flower.jpg is a dahlia, which is no class of ImageNet: these two say honeycomb
    for file in ("chelsea.png", "coffee.png", "camera.png", "china.jpg"):
        logits = reference.logits(photographs[file], "center")
        assert _labels()[int(logits[0].argmax())] in SEEN[file]
