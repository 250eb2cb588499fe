"""What the numbers of a foreign file are taken for, and what is asked for instead of guessed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.adoption import foreign, look, tail
from export.adoption.foreign import Activation, Wishes
from export.adoption.original import Original
from export.adoption.presets import Preprocessing
from export.adoption.proof import crops_of
from export.adoption.tail import Tail
from export.data import pictures
from export.errors import ForeignModelRefused
from tests.pytorch.adoption.test_adopt import adopted, same
from tests.pytorch.adoption.test_refusals import plain
from tests.pytorch.conftest import Command, read_manifest
from tests.pytorch.foreign_files import SIDE, torchvision

RULES = Preprocessing(
    preset="torchvision",
    color=None,
    rescale=None,
    mean=None,
    std=None,
    interpolation=None,
    rule="shortest_side",
    resize=None,
    centre_square=False,
)
Step = tuple[str, dict[str, Any], list[object]]
"""An operator, its attributes, and what it is fed besides the tensor before it."""

SOFTMAX: Step = ("Softmax", {"axis": 1}, [])
SIGMOID: Step = ("Sigmoid", {}, [])
SOFTER: Step = ("Mul", {}, [np.float32(0.01)])
PERCENT: Step = ("Mul", {}, [np.float32(100)])
UNIT: Step = ("LpNormalization", {"axis": 1, "p": 2}, [])


def ending(file: Path, *steps: Step, classes: int = 1000) -> Path:
    """A file whose scores go through ``steps``; the first output of the last is the answer."""
    model = onnx.load(plain(file, classes))
    graph = model.graph
    for operator, attributes, more in steps:
        count = len(graph.node)
        names = []
        for value in more:
            names.append(f"more_{count}_{len(names)}")
            graph.initializer.append(numpy_helper.from_array(np.asarray(value), names[-1]))
        outputs = [f"end_{count}"] + (["indices"] if operator == "TopK" else [])
        node = helper.make_node(operator, [graph.output[0].name, *names], outputs, **attributes)
        graph.node.append(node)
        graph.output[0].name = outputs[0]
    graph.output[0].type.tensor_type.ClearField("shape")
    onnx.save(model, file)
    return file


def meaning(file: Path, activation: Activation | None = None, *, imagenet: bool = True) -> Tail:
    """What the file's answers to the photographs are taken for."""
    found = foreign.read(file, Wishes())
    input = RULES.input(SIDE, SIDE, 3)  # noqa: A001
    original = Original(found, input)
    resize = RULES.resizing(SIDE, SIDE)
    crops = [crops_of(p, input, resize, "center") for p in pictures.photographs().values()]
    given = original.pictures(np.concatenate(crops))
    return tail.find(found, original, given, activation, imagenet=imagenet)


def refusal(file: Path, activation: Activation | None = None, *, imagenet: bool = True) -> str:
    with pytest.raises(ForeignModelRefused) as refused:
        meaning(file, activation, imagenet=imagenet)
    return str(refused.value)


@pytest.mark.parametrize(
    ("steps", "kind", "total"),
    [
        ([], "logits", 1),
        ([SOFTMAX], "softmax", 1),
        ([SOFTMAX, PERCENT], "probabilities", 100),
        ([SOFTER, SOFTMAX, ("Log", {}, [])], "log_softmax", 1),
        ([("LogSoftmax", {"axis": 1}, [])], "log_softmax", 1),
    ],
    ids=["logits", "softmax", "percent", "log", "log_softmax"],
)
def test_what_the_graph_and_its_numbers_say(
    steps: list[Step], kind: str, total: float, tmp_path: Path
) -> None:
    found = meaning(ending(tmp_path / "net.onnx", *steps))
    assert (found.kind, found.doubts) == (kind, ())
    assert found.total == pytest.approx(total, rel=1e-3)
    assert found.scaled is (total != 1)


@pytest.mark.parametrize(
    ("steps", "reason"),
    [
        ([SIGMOID], "it ends in Sigmoid: its classes do not exclude each other"),
        ([SIGMOID, PERCENT], "it ends in Sigmoid: its classes do not exclude each other"),
        # a sigmoid spelt in other operators
        (
            [
                ("Neg", {}, []),
                ("Exp", {}, []),
                ("Add", {}, [np.float32(1)]),
                ("Reciprocal", {}, []),
            ],
            "its answers lie from 0 to 1 and do not add up to one number, as behind a Sigmoid",
        ),
        ([("TopK", {}, [np.array([7])])], "it ends in TopK: it yields the best classes"),
        ([SOFTMAX, ("TopK", {}, [np.array([7])])], "it ends in TopK: it yields the best classes"),
        ([("TopK", {}, [np.array([7])]), SOFTMAX], "it ends in TopK: it yields the best classes"),
        # behind an operator that nobody looks through, its numbers still fall
        (
            [SOFTER, ("TopK", {}, [np.array([7])]), ("Tanh", {}, [])],
            "these are the best classes in their order",
        ),
    ],
    ids=["sigmoid", "sigmoid percent", "spelt", "top", "soft top", "top soft", "falling"],
)
@pytest.mark.parametrize("activation", [None, "softmax"])
def test_what_is_no_row_of_probabilities_or_logits(
    steps: list[Step], reason: str, activation: Activation | None, tmp_path: Path
) -> None:
    assert reason in refusal(ending(tmp_path / "net.onnx", *steps), activation)


def test_the_user_is_asked_what_cannot_be_told(tmp_path: Path) -> None:
    file = ending(tmp_path / "net.onnx", classes=20)
    reason = refusal(file, imagenet=False)
    assert "has 20 numbers a picture that are no probabilities" in reason
    assert "--activation softmax, if" in reason
    assert "--activation sigmoid, if" in reason
    assert meaning(file, "softmax", imagenet=False).kind == "logits"
    reason = refusal(file, "sigmoid", imagenet=False)
    assert "its classes do not exclude each other (multi-label)" in reason
    # a file that says it itself is not asked about
    assert meaning(ending(tmp_path / "soft.onnx", SOFTMAX), imagenet=False).kind == "softmax"


@pytest.mark.parametrize(
    ("steps", "seen"),
    [
        ([UNIT], "every row has the length 1, as a normalised embedding has"),
        ([("Mul", {}, [np.float32(0.001)])], "no class stands out"),
        ([("Relu", {}, [])], "no number is below 0"),
        ([("Sub", {}, [np.float32(60)])], "and the rest far below, as of classes that do not"),
    ],
    ids=["unit length", "flat", "relu", "multi-label"],
)
def test_what_looks_like_something_else_is_asked_for_and_remarked(
    steps: list[Step], seen: str, tmp_path: Path
) -> None:
    file = ending(tmp_path / "net.onnx", *steps)
    assert seen in refusal(file)  # though it has a thousand classes
    assert any(seen in doubt for doubt in meaning(file, "softmax").doubts)


def test_signs_need_numbers_that_show_them() -> None:
    generator = np.random.default_rng(0)
    logits = generator.normal(0, 3, (8, 40))
    assert look.doubts(logits) == ()
    assert not look.are_sorted(np.sort(logits[:, :4], axis=1)[:, ::-1])  # by chance, perhaps
    assert look.are_sorted(np.sort(logits[:, :5], axis=1)[:, ::-1])
    assert not look.are_sorted(np.ones((8, 5)))
    assert look.constant_sum(logits) is None
    assert look.constant_sum(np.abs(logits)) is None
    assert look.constant_sum(np.full((8, 4), 25.0)) == 100
    assert not look.are_logarithms(-np.abs(logits))


def test_percentages_are_served_as_probabilities(export: Command, tmp_path: Path) -> None:
    file = ending(tmp_path / "net.onnx", SOFTMAX, PERCENT)
    outcome = adopted(export, file)
    assert "which add up to 100 and were divided by it" in outcome.out
    share = ending(tmp_path / "share.onnx", SOFTMAX)
    (tmp_path / "share").mkdir()
    share.rename(tmp_path / "share" / "net.onnx")
    (tmp_path / "models").rename(tmp_path / "share" / "models")
    same(tmp_path / "share" / "net.onnx", torchvision, logits=False)


def test_remarks_are_recorded_and_shown(export: Command, tmp_path: Path) -> None:
    file = ending(tmp_path / "net.onnx", ("Sub", {}, [np.float32(60)]))
    outcome = adopted(export, file, "--activation", "softmax")
    remark = "--activation softmax was said of numbers of which"
    assert f"remark: {remark}" in outcome.out
    manifest = read_manifest(tmp_path / "models" / "it" / "1")
    assert manifest.verification is not None
    assert manifest.verification.remarks[0].startswith(remark)
    shown = export("verify", "it", "--models", tmp_path / "models")
    assert f"remark: {remark}" in shown.out
    assert "adopted from net.onnx" in shown.error


def test_an_output_of_halves_alone_is_compared_as_halves(export: Command, tmp_path: Path) -> None:
    file = ending(tmp_path / "net.onnx", ("Cast", {"to": TensorProto.FLOAT16}, []))
    model = onnx.load(file)
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT16
    onnx.save(model, file)
    adopted(export, file)
    assert read_manifest(tmp_path / "models" / "it" / "1").file("model").precision == "fp32"
