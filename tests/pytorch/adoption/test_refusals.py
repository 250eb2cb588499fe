from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.pytorch.conftest import Command, snapshot
from tests.pytorch.foreign_files import CLASSES, FEATURES, SIDE, Hand

Break = Callable[[onnx.ModelProto], None]


def plain(file: Path, classes: int = CLASSES, opset: int = 13, **options: Any) -> Path:
    """A file that nothing is wrong with."""
    hand = Hand(opset, [1, 3, SIDE, SIDE], [1, classes], ir_version=7)
    flat = hand.node("Flatten", hand.features())
    hand.node("MatMul", flat, hand.weight(FEATURES, classes, gain=20.0), name="scores")
    return hand.save(file, "scores", **options)


def refused(export: Command, folder: Path, file: Path, *arguments: object) -> str:
    """The one line on stderr of a refusal that leaves everything as it was."""
    models = folder / "models"
    models.mkdir(exist_ok=True)
    (models / "stray").touch()
    before = snapshot(folder)
    outcome = export(
        *("adopt", file, "--name", "it", "--preset", "torchvision", "--output", models),
        *arguments,
    )
    assert outcome.code == 2, outcome.err
    assert snapshot(folder) == before
    return outcome.error


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no model", b"\x08\x07", b"\xff" * 4096])
def test_what_is_no_onnx(content: bytes, export: Command, tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(content)
    assert "net.onnx is no ONNX file" in refused(export, tmp_path, tmp_path / "net.onnx")


def test_what_is_not_there(export: Command, tmp_path: Path) -> None:
    assert "no such file" in refused(export, tmp_path, tmp_path / "none.onnx")
    assert "no such file" in refused(export, tmp_path, tmp_path)


def _two_inputs(model: onnx.ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, [1]))


def _two_outputs(model: onnx.ModelProto) -> None:
    model.graph.output.append(helper.make_tensor_value_info("Relu_1", TensorProto.FLOAT, None))


def _text(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.STRING


def _rank_three(model: onnx.ModelProto) -> None:
    del model.graph.input[0].type.tensor_type.shape.dim[0]


def _any_size(model: onnx.ModelProto) -> None:
    for dim in model.graph.input[0].type.tensor_type.shape.dim[2:]:
        dim.dim_param = "side"


def _any_channels(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "c"


def _five_channels(model: onnx.ModelProto) -> None:
    for dim, value in zip(
        model.graph.input[0].type.tensor_type.shape.dim, (1, 5, SIDE, 3), strict=True
    ):
        dim.dim_value = value


def _output(operator: str, **more: Any) -> Break:
    """End in another operator on what was the answer."""

    def change(model: onnx.ModelProto) -> None:
        graph = model.graph
        graph.node.append(helper.make_node(operator, [graph.output[0].name], ["end"], **more))
        graph.output[0].name = "end"
        graph.output[0].type.tensor_type.ClearField("shape")
        if operator in ("ArgMax", "Shape"):
            graph.output[0].type.tensor_type.elem_type = TensorProto.INT64
        if more.get("domain"):
            model.opset_import.append(helper.make_opsetid("com.example", 1))

    return change


def _maps(model: onnx.ModelProto) -> None:
    model.graph.output[0].name = "AveragePool_4"
    model.graph.output[0].type.tensor_type.ClearField("shape")


def _sparse(model: onnx.ModelProto) -> None:
    values = numpy_helper.from_array(np.ones(1, np.float32), "sparse")
    indices = numpy_helper.from_array(np.zeros(1, np.int64), "indices")
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [4]))


def _nan(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    values = np.full(tuple(tensor.dims), np.nan, np.float32)
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_two_inputs, "it has 2 inputs (data, more), a classifier has one"),
        (_two_outputs, "it has 2 outputs (scores, Relu_1), a classifier has one: --take"),
        (_text, "its input data is TensorProto.STRING, not pictures"),
        (_rank_three, "its input data is [3, 65, 65]: pictures have four dimensions"),
        (_any_size, "it takes pictures of any size: --size says which to serve"),
        (_any_channels, "which dimension holds the colours? --layout"),
        (_maps, "its output AveragePool_4 is [1, 32, 5, 5] for a batch of 1, not a row of classes"),
        (_output("ArgMax", axis=1), "its output end is int64, not probabilities"),
        (_output("ReduceMax"), "its output end has one class: it is no classifier"),
        (_output("Squeeze"), "its output end is [1000] for a batch of 1, not a row"),
        (_output("Sigmoid"), "it ends in Sigmoid: its classes do not exclude each other"),
        (_output("Softmax", axis=0), "it ends in a Softmax, but not over its classes"),
        (_output("Mystery", domain="com.example"), "ONNX Runtime cannot open net.onnx"),
        (_sparse, "net.onnx has sparse weights, which cannot be adopted"),
        (_nan, "its answers to photographs are not finite numbers"),
    ],
    ids=lambda value: value.__name__ if callable(value) else None,
)
def test_what_is_no_classifier(change: Break, reason: str, export: Command, tmp_path: Path) -> None:
    file = plain(tmp_path / "net.onnx")
    model = onnx.load(file)
    change(model)
    onnx.save(model, file)
    assert reason in refused(export, tmp_path, file)


def test_channels_that_are_no_colours(export: Command, tmp_path: Path) -> None:
    file = plain(tmp_path / "net.onnx")
    model = onnx.load(file)
    _five_channels(model)
    onnx.save(model, file)
    assert "its input has 5 channels" in refused(export, tmp_path, file, "--layout", "nchw")


@pytest.mark.parametrize("opset", [1, 6])
def test_opsets_that_are_too_old(opset: int, export: Command, tmp_path: Path) -> None:
    file = plain(tmp_path / "net.onnx", opset=opset)
    assert f"net.onnx has opset {opset}: 7 is the least" in refused(export, tmp_path, file)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--name", "../up"], "name '../up' is no model's"),
        (["--name", "stats"], "name 'stats' is no model's"),
        (["--name", "Upper"], "name 'Upper' is no model's"),
        (["--name", "a" * 65], "is no model's"),
        (["--version", "0"], "version '0' is no whole number"),
        (["--preset", "caffee"], "unknown preset 'caffee': there are caffe, "),
        (["--size", "64"], "--size 64, but it takes pictures of 65 pixels"),
        (["--take", "other"], "it has no output 'other', but scores"),
        (["--mean", "1,2"], "--mean has 2 values of mean for 3 channels"),
        (["--mean", "1,2,x"], "--mean: 'x' is no number"),
        (["--mean", "nan"], "--mean has a value that is no number"),
        (["--std", "0"], "--std must be above 0"),
        (["--rescale", "1/0"], "--rescale: '1/0' is no number"),
        (["--color", "L"], "--color L does not go with 3 channels"),
        (["--protocols", "dense"], "protocol 'dense': an adopted model can have"),
        (["--protocols", "centre"], "there is no protocol 'centre'"),
        (["--rule", "exact", "--protocols", "ten_crop"], "ten_crop needs --resize 65 or more"),
        (["--rule", "exact", "--resize", "70"], "it takes no --resize"),
        (["--skip-first"], "it has 999 classes: --labels FILE must name them"),
    ],
    ids=lambda value: " ".join(value)[:30] if isinstance(value, list) else None,
)
def test_wishes_that_cannot_be_met(
    arguments: list[str], reason: str, export: Command, tmp_path: Path
) -> None:
    assert reason in refused(export, tmp_path, plain(tmp_path / "net.onnx"), *arguments)


@pytest.mark.parametrize(
    ("classes", "text", "reason"),
    [
        (1001, None, "it has 1001 classes: --labels FILE must name them (or --skip-first"),
        (12, "cat\ndog\n", "it has 12 classes, the labels file 2"),
        (2, "cat\n\n", "it has 2 classes, the labels file 1"),
        (3, "cat\n\ndog\n", "has an empty or unprintable label for class 1"),
        (2, "index,synset,label\n1,,cat\n0,,dog\n", "class 1 has the number 0"),
        (2, "index,synset,label\nzero,,cat\n", "'zero' is no number of a class"),
        (2, "caf\xe9\n", "is not UTF-8 text"),
    ],
)
def test_labels_that_do_not_fit(
    classes: int, text: str | None, reason: str, export: Command, tmp_path: Path
) -> None:
    file = plain(tmp_path / "net.onnx", classes)
    labels = tmp_path / "labels.txt"
    if text is not None:
        labels.write_bytes(text.encode("latin-1"))
    arguments = [] if text is None else ["--labels", labels]
    assert reason in refused(export, tmp_path, file, *arguments)


def test_one_class(export: Command, tmp_path: Path) -> None:
    file = plain(tmp_path / "net.onnx", 1)
    assert "has one class: it is no classifier" in refused(export, tmp_path, file)
    file = plain(tmp_path / "net.onnx", 2)
    assert "it has only one" in refused(export, tmp_path, file, "--skip-first")


def test_a_version_that_is_there(export: Command, tmp_path: Path) -> None:
    (tmp_path / "models" / "it" / "1").mkdir(parents=True)
    reason = refused(export, tmp_path, plain(tmp_path / "net.onnx"))
    assert "is already there; --force replaces it" in reason


def _outside(file: Path, location: str, **more: str) -> Path:
    """Move the weights of a file into another, and say that they are at ``location``."""
    onnx.save(
        onnx.load(file),
        file,
        save_as_external_data=True,
        location="weights.bin",
        size_threshold=0,
    )
    model = onnx.load(file, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            entry.value = {"location": location, **more}.get(entry.key, entry.value)
    file.write_bytes(model.SerializeToString())
    return file


@pytest.mark.parametrize(
    "location",
    [
        "../weights.bin",
        "below/../../weights.bin",
        "/etc/passwd",
        "C:\\weights.bin",
        "..\\weights.bin",
        "",
        ".",
        "weights.bin\0",
    ],
)
def test_external_data_outside_of_the_folder(
    location: str, export: Command, tmp_path: Path
) -> None:
    folder = tmp_path / "here"
    (folder / "below").mkdir(parents=True)
    file = _outside(plain(folder / "net.onnx"), location)
    (tmp_path / "weights.bin").write_bytes((folder / "weights.bin").read_bytes())
    reason = refused(export, tmp_path, file)
    assert "keeps its data in" in reason


@pytest.mark.parametrize("kind", ["link", "link to a folder", "folder", "pipe", "missing"])
def test_external_data_that_is_no_plain_file(kind: str, export: Command, tmp_path: Path) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    location = "step/weights.bin" if kind == "link to a folder" else "other.bin"
    file = _outside(plain(folder / "net.onnx"), location)
    if kind == "link":
        (folder / "other.bin").symlink_to(folder / "weights.bin")
    elif kind == "link to a folder":
        (folder / "step").symlink_to(folder)
    elif kind == "folder":
        (folder / "other.bin").mkdir()
    elif kind == "pipe":
        os.mkfifo(folder / "other.bin")
    # (a snapshot would wait for the pipe)
    outcome = export(
        *("adopt", file, "--name", "it", "--preset", "raw", "--output", tmp_path / "models")
    )
    assert outcome.code == 2
    assert f"keeps its data in '{location}'" in outcome.error
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"offset": "99999999"}, "which has"),
        ({"length": "99999999"}, "which has"),
        ({"offset": "-4"}, "external data of offset '-4'"),
        ({"length": "1e3"}, "external data of length '1e3'"),
    ],
)
def test_external_data_beyond_its_file(
    more: dict[str, str], reason: str, export: Command, tmp_path: Path
) -> None:
    file = _outside(plain(tmp_path / "net.onnx"), "weights.bin", **more)
    assert reason in refused(export, tmp_path, file)


def test_a_network_that_ignores_its_pictures(export: Command, tmp_path: Path) -> None:
    hand = Hand(13, [1, 3, SIDE, SIDE], [1, CLASSES], ir_version=7)
    flat = hand.node("Flatten", hand.features())
    nothing = hand.node("Mul", flat, hand.constant(np.zeros(1, np.float32)))
    hand.node("MatMul", nothing, hand.weight(FEATURES, CLASSES), name="scores")
    file = hand.save(tmp_path / "blind.onnx", "scores")
    outcome = export(
        "adopt", file, "--name", "it", "--preset", "raw", "--output", tmp_path / "models"
    )
    assert outcome.code == 1
    assert "the answers hardly differ between pictures" in outcome.error
    assert not (tmp_path / "models").exists()
