from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from export.data import pictures
from export.graph import graph
from export.proof.parity import (
    Answers,
    Exported,
    Parity,
    compare,
    depth,
    prove,
    same_top,
    spread,
    top,
)
from export.proof.reference import Reference
from export.spec import Spec
from export.weights import files
from export.zoo import registry
from service.manifest import Input

COLOURFUL = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "china.jpg")


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return (powers / powers.sum(axis=-1, keepdims=True)).astype(np.float32)


def _answers(logits: np.ndarray) -> Answers:
    """Answers to P pictures, one crop each, from logits [P, classes]."""
    return Answers(_softmax(logits), logits[:, None].astype(np.float32))


def _logits(pictures: int = 12, classes: int = 50) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 2, (pictures, classes))


# --- compare(): arrays -----------------------------------------------------------------------


def test_equal_answers_that_differ_between_pictures_pass() -> None:
    parity = compare(_answers(_logits()), _answers(_logits()))
    assert parity.passed, parity.failures
    assert (parity.probability_difference, parity.logit_difference) == (0, 0)
    assert (parity.top5_agreement, parity.distinct_top5, parity.pictures) == (1, 12, 12)


@pytest.mark.parametrize(("factor", "passes"), [(0.9, True), (1.1, False)])
def test_probabilities_may_differ_by_one_in_ten_thousand(factor: float, passes: bool) -> None:
    truth = _answers(_logits())
    moved = truth.probabilities.copy()
    moved[3, 7] += 1e-4 * factor
    parity = compare(truth, replace(truth, probabilities=moved))
    assert parity.passed is passes
    assert parity.probability_difference == pytest.approx(1e-4 * factor, rel=1e-3)


@pytest.mark.parametrize(("factor", "passes"), [(0.9, True), (1.1, False)])
def test_logits_may_differ_by_a_thousandth_of_their_deviation(factor: float, passes: bool) -> None:
    truth = _answers(_logits())
    moved = truth.logits.copy()
    moved[3, 0, 7] += 1e-3 * factor * truth.logits[3, 0].std()
    parity = compare(truth, replace(truth, logits=moved))
    assert parity.passed is passes
    assert parity.logit_difference == pytest.approx(1e-3 * factor, rel=1e-2)


@pytest.mark.parametrize("field", ["probabilities", "logits"])
def test_nan_and_infinity_fail(field: str) -> None:
    truth = _answers(_logits())
    for value in (np.nan, np.inf):
        broken = getattr(truth, field).copy()
        broken.flat[5] = value
        assert not compare(truth, replace(truth, **{field: broken})).passed
        assert not compare(replace(truth, **{field: broken}), truth).passed


def test_constant_answers_fail_though_they_are_equal() -> None:
    constant = _answers(np.repeat(_logits(1), 12, axis=0))
    failures = compare(constant, constant).failures
    assert any("hardly differ between pictures" in failure for failure in failures)
    assert any("12 pictures have only 1 different top fives" in failure for failure in failures)


def test_flat_answers_fail() -> None:
    flat = _answers(np.zeros((12, 50)))
    assert not compare(flat, flat).passed


def test_nearly_constant_answers_fail_whatever_their_top_five() -> None:
    # five pairs of classes so close that the little noise decides which of them comes first
    base = np.zeros(50)
    base[:10] = 10
    noise = np.random.default_rng(1).normal(0, 0.01, (12, 50))
    parity = compare(_answers(base + noise), _answers(base + noise))
    assert parity.distinct_top5 > 6
    assert not parity.passed
    assert "hardly differ" in parity.failures[0]


def test_logits_shifted_by_a_constant_per_picture_count_as_constant() -> None:
    shifted = np.repeat(_logits(1), 12, axis=0) + np.arange(12)[:, None]
    assert spread(shifted[:, None].astype(np.float32)) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(("factor", "passes"), [(0.95, False), (1.05, True)])
def test_the_least_spread(factor: float, passes: bool) -> None:
    between = np.random.default_rng(2).normal(0, 1, (12, 50))
    scaled = _logits(1) + between
    for _ in range(20):  # a fixed point: the noise adds to the spread over the classes, too
        between *= 0.05 * factor / spread(scaled[:, None].astype(np.float32))
        scaled = _logits(1) + between
    failures = compare(_answers(scaled), _answers(scaled)).failures
    assert any("hardly differ" in failure for failure in failures) is not passes


@pytest.mark.parametrize(("factor", "same"), [(0.9, True), (1.1, False)])
def test_a_tie_below_the_tolerance_may_swap_places(factor: float, same: bool) -> None:
    logits = np.linspace(4, -4, 50)
    probabilities = np.log(_softmax(logits).astype(np.float64))
    logits[5] = logits[4] - 1e-3 * factor * probabilities.std()
    swapped = logits.copy()
    swapped[[4, 5]] = swapped[[5, 4]]
    expected, got = _softmax(logits), _softmax(swapped)
    assert set(top(expected, 5)) != set(top(got, 5))
    assert same_top(expected, got, 5) is same


def test_the_order_inside_the_top_five_does_not_matter() -> None:
    logits = np.linspace(4, -4, 50)
    swapped = logits.copy()
    swapped[[0, 4]] = swapped[[4, 0]]
    assert same_top(_softmax(logits), _softmax(swapped), 5)


@pytest.mark.parametrize(("classes", "count"), [(2, 1), (5, 1), (9, 1), (10, 5), (1000, 5)])
def test_top_five_of_few_classes_is_top_one(classes: int, count: int) -> None:
    assert depth(classes) == count


def test_two_classes_can_be_proved() -> None:
    logits = np.random.default_rng(3).normal(0, 2, (12, 2))
    assert compare(_answers(logits), _answers(logits)).passed


def test_answers_of_other_shapes_or_to_one_picture_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="shapes"):
        compare(_answers(_logits()), _answers(_logits(classes=49)))
    with pytest.raises(ValueError, match="one picture"):
        compare(_answers(_logits(1)), _answers(_logits(1)))


# --- prove(): networks -----------------------------------------------------------------------


def _prove(reference: Reference, exported: Exported) -> dict[str, Parity]:
    photographs = pictures.photographs()
    samples = {name: photographs[name] for name in COLOURFUL}
    return prove(reference, exported, {"center": samples})


@pytest.fixture(scope="module")
def lite0_network() -> nn.Module:
    return files.load(registry.get("efficientnet_lite0"), None).network


def test_the_true_network_passes(lite0: Exported, lite0_network: nn.Module) -> None:
    found = _prove(Reference(registry.get("efficientnet_lite0"), lite0_network), lite0)
    assert set(found) == {"center", "batch"}
    for part, parity in found.items():
        assert parity.passed, (part, parity.failures)


def _wrong(**changes: Any) -> Spec:
    spec = registry.get("efficientnet_lite0")
    return replace(spec, input=spec.input.model_copy(update=changes))


@pytest.mark.parametrize(
    "spec",
    [
        _wrong(mean=(0.485, 0.456, 0.406)),
        _wrong(std=(0.229, 0.224, 0.225)),
        _wrong(color="BGR"),
    ],
    ids=["mean", "std", "channels swapped"],
)
def test_wrong_preprocessing_fails(spec: Spec, lite0: Exported, lite0_network: nn.Module) -> None:
    found = _prove(Reference(spec, lite0_network), lite0)
    assert not found["center"].passed
    assert found["batch"].passed


def test_wrong_interpolation_fails(lite0: Exported, lite0_network: nn.Module) -> None:
    spec = registry.get("efficientnet_lite0")
    bilinear = spec.resize.model_copy(update={"interpolation": "bilinear"})
    found = _prove(Reference(replace(spec, resize=bilinear), lite0_network), lite0)
    assert not found["center"].passed


class Blend(nn.Module):
    """A constant plus ``share`` of what another network says."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("share", torch.ones(10))
        self.register_buffer("constant", torch.linspace(-5, 5, 10))

    def forward(self, picture: Tensor) -> Tensor:
        logits: Tensor = self.constant + self.share * self.network(picture)
        return logits


@pytest.fixture(scope="module")
def blend() -> tuple[Blend, onnx.ModelProto]:
    """The network and its graph, in which the share is a tensor that can be changed."""
    spec = registry.get("lenet5")
    network = Blend(files.load(spec, None).network)
    return network, graph.to_onnx(network, spec.input, "blend")


@pytest.mark.parametrize(("share", "passes"), [(0.0, False), (0.005, False), (1.0, True)], ids=str)
def test_a_network_that_hardly_looks_at_the_picture_fails(
    share: float,
    passes: bool,
    blend: tuple[Blend, onnx.ModelProto],
    lenet5: Exported,
    tmp_path: Path,
) -> None:
    network, model = blend
    (shares,) = (tensor for tensor in model.graph.initializer if tensor.name == "network.share")
    shares.CopyFrom(numpy_helper.from_array(np.full(10, share, np.float32), shares.name))
    onnx.save(model, tmp_path / "model.onnx")
    network.get_buffer("share").fill_(share)
    exported = Exported(tmp_path / "model.onnx", lenet5.manifest)
    samples = {**pictures.digit_pictures(), **pictures.photographs()}
    reference = Reference(registry.get("lenet5"), network)
    parity = prove(reference, exported, {"center": samples})["center"]
    assert parity.probability_difference < 1e-6
    assert parity.logit_difference < 1e-5
    assert parity.passed is passes, parity.failures
    assert any("hardly differ" in failure for failure in parity.failures) is not passes


class OddColours(nn.Module):
    """Twelve classes that see each colour differently."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Conv2d(3, 12, 8, stride=8)

    def forward(self, picture: Tensor) -> Tensor:
        return 20 * torch.tanh(self.layer(picture)).mean(dim=(2, 3))


def test_bgr_and_caffe_scales_lie_in_the_graph(lite0: Exported, tmp_path: Path) -> None:
    caffe = Input(
        height=224,
        width=224,
        channels=3,
        color="BGR",
        rescale=1,
        mean=(103.939, 116.779, 123.68),
        std=(58.0, 57.0, 57.0),
    )
    spec = replace(registry.get("efficientnet_lite0"), input=caffe)
    network = OddColours()
    onnx.save(graph.to_onnx(network, caffe, "odd"), tmp_path / "model.onnx")
    exported = Exported(tmp_path / "model.onnx", lite0.manifest.model_copy(update={"input": caffe}))
    assert _prove(Reference(spec, network), exported)["center"].passed
    as_rgb = replace(spec, input=caffe.model_copy(update={"color": "RGB"}))
    assert not _prove(Reference(as_rgb, network), exported)["center"].passed


class Forgetful(OddColours):
    """Right for the first two pictures of a batch, and the reverse for all others."""

    def forward(self, picture: Tensor) -> Tensor:
        logits = super().forward(picture)
        place = torch.arange(picture.shape[0])
        return logits * torch.where(place < 2, 1.0, -1.0)[:, None]


def test_a_graph_that_is_wrong_from_the_third_of_a_batch_on_is_noticed(
    lite0: Exported, tmp_path: Path
) -> None:
    spec = registry.get("efficientnet_lite0")
    onnx.save(graph.to_onnx(Forgetful(), spec.input, "forgetful"), tmp_path / "model.onnx")
    exported = Exported(tmp_path / "model.onnx", lite0.manifest)
    found = _prove(Reference(spec, OddColours()), exported)
    assert found["center"].passed, found["center"].failures
    assert not found["batch"].passed
