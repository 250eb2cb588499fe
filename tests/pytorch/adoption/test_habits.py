"""Habits of exporters, converters and optimisers: mended where they can be, named where not."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.transformers.float16 import convert_float_to_float16
from safetensors.numpy import save

from export.adoption import fitting, foreign, order, proof
from export.adoption.fitting import Complaint
from export.adoption.foreign import Wishes
from export.adoption.original import Pixels
from export.adoption.truth import Truth, tolerance
from export.errors import ForeignModelRefused
from export.proof.parity import Tolerance
from tests.pytorch.adoption.test_adopt import adopted, same, served
from tests.pytorch.adoption.test_refusals import plain, refused
from tests.pytorch.conftest import Command
from tests.pytorch.foreign_files import CLASSES, FEATURES, SIDE, Hand, Net, torchscript, torchvision


@pytest.fixture(scope="module")
def singles(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    """Files in single precision, without a Softmax and with one."""
    folder = tmp_path_factory.mktemp("singles")
    return {
        softmax: torchscript(folder / f"{softmax}.onnx", Net(softmax=softmax))
        for softmax in (False, True)
    }


# --- half precision ---------------------------------------------------------------------------


@pytest.mark.parametrize("softmax", [False, True], ids=["logits", "softmax"])
@pytest.mark.parametrize("keep", [False, True], ids=["halves at its ends", "keep_io_types"])
def test_the_runtimes_own_half_precision(
    keep: bool, softmax: bool, singles: dict[bool, Path], export: Command, tmp_path: Path
) -> None:
    file = tmp_path / "half.onnx"
    half = convert_float_to_float16(onnx.load(singles[softmax]), keep_io_types=keep)
    onnx.save(half, file)
    outcome = adopted(export, file)
    # it appends the casts of its input behind the nodes that read them
    assert ("order: nodes that stood before what they read" in outcome.out) is keep
    assert served(tmp_path / "models")[0].file("model").precision == "fp16"
    same(
        file,
        torchvision if keep else lambda x: torchvision(x).half(),
        logits=False if softmax else None,
        tolerance=2e-3,
    )


def test_ten_crops_of_a_picture_round_as_they_do(
    singles: dict[bool, Path], export: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not as its centre does: how far halves may be apart depends on the crops."""
    measured = []

    def counted(truth: Truth, pictures: list[Pixels]) -> Tolerance:
        measured.extend(map(len, pictures))
        return tolerance(truth, pictures)

    monkeypatch.setattr(proof, "tolerance", counted)
    file = tmp_path / "half.onnx"
    onnx.save(convert_float_to_float16(onnx.load(singles[False]), keep_io_types=True), file)
    outcome = export(
        "adopt", file, "--name", "it", "--preset", "timm", "--output", tmp_path / "models"
    )
    assert (outcome.code, outcome.err) == (0, "")
    assert "it ten_crop: passed" in outcome.out
    assert set(measured) == {1, 10}


def test_nodes_are_sorted_in_subgraphs_too(export: Command, tmp_path: Path) -> None:
    file = plain(tmp_path / "net.onnx")
    model = onnx.load(file)
    twice = helper.make_graph(
        [
            helper.make_node("Identity", ["sum"], ["out"]),
            helper.make_node("Add", ["scores", "scores"], ["sum"]),
        ],
        "twice",
        [],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
    )
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
    branch = helper.make_node("If", ["yes"], ["end"], then_branch=twice, else_branch=twice)
    nodes = [branch, *reversed(model.graph.node)]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    model.graph.output[0].name = "end"
    onnx.save(model, file)
    found = foreign.read(file, Wishes())
    assert found.reordered
    assert not order.sort(found.model.graph)
    onnx.checker.check_model(found.model)
    assert "order: nodes that stood before" in adopted(export, file).out
    tidy = plain(tmp_path / "tidy.onnx")
    assert not foreign.read(tidy, Wishes()).reordered


def test_nodes_in_a_circle_are_refused(tmp_path: Path) -> None:
    file = plain(tmp_path / "net.onnx")
    model = onnx.load(file)
    model.graph.node[0].input[0] = "scores"
    onnx.save(model, file)
    with pytest.raises(ForeignModelRefused, match="wait for each other in a circle"):
        foreign.read(file, Wishes())


def test_the_reason_that_is_shown_is_the_one_that_tells() -> None:
    first, second = Complaint(2, "a batch of 2 yields [1, 10]"), Complaint(1, "off by 0.2")
    last = Complaint(0, "Nodes in a graph must be topologically sorted")
    assert fitting.telling([first, second, last]) is second
    assert fitting.telling([last, second]) is last
    assert fitting.telling([first, Complaint(5, "off by 0.3")]) is first


# --- training mode and chance -------------------------------------------------------------------


def _with_node(file: Path, operator: str, *more: object, **attributes: Any) -> Path:
    """A file with one more operator behind its first convolution."""
    model = onnx.load(plain(file, opset=15))
    names = []
    for value in more:
        names.append(f"more_{len(names)}")
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), names[-1]))
    first = model.graph.node[0]
    node = helper.make_node(operator, [first.output[0], *names], ["extra"], **attributes)
    for other in model.graph.node[1:]:
        for index, name in enumerate(other.input):
            if name == first.output[0]:
                other.input[index] = "extra"
    if operator.startswith("Random"):
        node.output[0] = "noise"
        model.graph.node.insert(1, helper.make_node("Add", [first.output[0], "noise"], ["extra"]))
    model.graph.node.insert(1, node)
    onnx.save(model, file)
    return file


def test_batch_norm_in_training_mode(export: Command, tmp_path: Path) -> None:
    ones, zeros = np.ones(16, np.float32), np.zeros(16, np.float32)
    file = _with_node(
        tmp_path / "net.onnx", "BatchNormalization", ones, zeros, zeros, ones, training_mode=1
    )
    reason = refused(export, tmp_path, file)
    assert "it was exported in training mode (BatchNormalization" in reason
    assert "export it in evaluation mode (model.eval()" in reason
    file = _with_node(tmp_path / "still.onnx", "BatchNormalization", ones, zeros, zeros, ones)
    adopted(export, file)


def test_a_network_that_torch_exported_in_training_mode(export: Command, tmp_path: Path) -> None:
    network = Net()
    file = torchscript(
        tmp_path / "net.onnx",
        network.train(),
        opset=15,
        training=torch.onnx.TrainingMode.TRAINING,
        do_constant_folding=False,
    )
    assert "it was exported in training mode" in refused(export, tmp_path, file)


def test_dropout_in_training_mode(export: Command, tmp_path: Path) -> None:
    half = np.float32(0.5)
    file = _with_node(tmp_path / "net.onnx", "Dropout", half, np.array(True))
    assert "in training mode (Dropout drops numbers by chance)" in refused(export, tmp_path, file)
    file = _with_node(tmp_path / "still.onnx", "Dropout", half, np.array(False))
    assert not foreign.read(file, Wishes()).reordered


def test_random_numbers(export: Command, tmp_path: Path) -> None:
    file = _with_node(tmp_path / "net.onnx", "RandomNormalLike", scale=0.5)
    assert "it draws random numbers (RandomNormalLike)" in refused(export, tmp_path, file)
    # where the answer does not depend on them, they do no harm
    model = onnx.load(plain(tmp_path / "aside.onnx"))
    model.graph.node.append(helper.make_node("RandomNormalLike", ["Conv_0"], ["aside"]))
    onnx.save(model, tmp_path / "aside.onnx")
    foreign.read(tmp_path / "aside.onnx", Wishes())


# --- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("loop", [False, True], ids=["together", "one by one"])
def test_names_like_our_own_do_not_clash(loop: bool, export: Command, tmp_path: Path) -> None:
    hand = Hand(13, [1, 3, SIDE, SIDE], [1, CLASSES], ir_version=7)
    maps = hand.node("Identity", hand.features(), name="adopted/add_4")
    if loop:  # the channels look like a batch
        maps = hand.node(
            "Squeeze", maps, hand.constant(np.array([0])), name="adopted/body/gather_0"
        )
        maps = hand.node("Reshape", maps, hand.constant(np.array([1, FEATURES])))
        maps = hand.node("Squeeze", maps, hand.constant(np.array([0])), name="network/logits")
    else:
        maps = hand.node("Flatten", maps, name="network/logits")
    scores = hand.node("MatMul", maps, hand.weight(FEATURES, CLASSES, gain=20.0), name="logits")
    if loop:
        scores = hand.node("Unsqueeze", scores, hand.constant(np.array([0])), name="probabilities")
    file = hand.save(tmp_path / "net.onnx", scores)
    outcome = adopted(export, file)
    assert ("one picture after the other" in outcome.out) is loop
    assert ("Exported with a dynamic batch" in outcome.out) is loop
    same(file, torchvision, logits=True)


def test_bytes_in_blue_green_red_one_by_one(export: Command, tmp_path: Path) -> None:
    # our first operator outside of the loop is the same as inside
    hand = Hand(13, [1, SIDE, SIDE, 3], [1, CLASSES], ir_version=7, type=TensorProto.UINT8)
    pixels = hand.node("Cast", "data", to=TensorProto.FLOAT)
    alone = hand.node("Squeeze", hand.features(hand.node("Transpose", pixels, perm=[0, 3, 1, 2])))
    row = hand.node("Reshape", alone, hand.constant(np.array([FEATURES])))
    scores = hand.node("MatMul", row, hand.weight(FEATURES, CLASSES, gain=0.2))
    end = hand.node("Unsqueeze", scores, hand.constant(np.array([0])))
    file = hand.save(tmp_path / "net.onnx", end)
    model = onnx.load(file)
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT
    onnx.save(model, file)
    outcome = adopted(export, file, "--color", "BGR", "--activation", "softmax", preset="raw")
    assert "one picture after the other" in outcome.out


def test_an_adopted_graph_can_be_adopted_again(export: Command, tmp_path: Path) -> None:
    first = plain(tmp_path / "net.onnx")
    adopted(export, first)
    again = tmp_path / "again" / "net.onnx"
    again.parent.mkdir()
    again.write_bytes((tmp_path / "models" / "it" / "1" / "model.onnx").read_bytes())
    adopted(export, again, "--take", "probabilities", preset="raw")
    same(again, lambda x: x.byte().permute(0, 2, 3, 1), logits=False)


# --- optimised and other files ------------------------------------------------------------------


def _optimised(file: Path, level: ort.GraphOptimizationLevel) -> Path:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = level
    options.optimized_model_filepath = str(file)
    single = plain(file.with_name("single.onnx"))
    ort.InferenceSession(single, options, providers=["CPUExecutionProvider"])
    return file


def test_a_graph_that_was_optimised_for_one_processor(export: Command, tmp_path: Path) -> None:
    file = plain(tmp_path / "net.onnx")
    model = onnx.load(file)
    model.graph.node[0].domain = "com.microsoft.nchwc"
    model.opset_import.append(helper.make_opsetid("com.microsoft.nchwc", 1))
    onnx.save(model, file)
    reason = refused(export, tmp_path, file)
    assert "it was optimised by ONNX Runtime for one kind of processor (Conv of domain" in reason
    model.graph.node[0].domain = "com.microsoft"
    model.graph.node[0].op_type = "EPContext"
    onnx.save(model, file)
    assert "it was compiled for one device (EPContext)" in refused(export, tmp_path, file)


def test_a_graph_with_the_runtimes_own_operators_is_remarked(
    export: Command, tmp_path: Path
) -> None:
    level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    outcome = adopted(export, _optimised(tmp_path / "net.onnx", level))
    assert "remark: the file was optimised by ONNX Runtime and has its own operators" in outcome.out
    assert "(FusedConv)" in outcome.out


def test_lists_of_dictionaries(export: Command, tmp_path: Path) -> None:
    file = plain(tmp_path / "net.onnx", 3)
    model = onnx.load(file)
    model.graph.node.append(
        helper.make_node(
            "ZipMap", ["scores"], ["maps"], domain="ai.onnx.ml", classlabels_int64s=[0, 1, 2]
        )
    )
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))
    model.graph.output[0].name = "maps"
    model.graph.output[0].type.Clear()
    model.graph.output[0].type.sequence_type.elem_type.map_type.key_type = TensorProto.INT64
    onnx.save(model, file)
    reason = refused(export, tmp_path, file)
    assert "its output maps is a list of dictionaries (ZipMap" in reason
    assert "{'zipmap': False}" in reason


def _zip(*names: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in names:
            archive.writestr(name, b"x")
    return stream.getvalue()


def _checkpoint() -> bytes:
    stream = io.BytesIO()
    torch.save({"weight": torch.zeros(3)}, stream)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "it is empty"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
            "it is a Git LFS pointer, which only names the file: `git lfs pull` fetches it",
        ),
        (_checkpoint(), "it is a PyTorch checkpoint: export it with torch.onnx.export"),
        (_zip("net/data.pkl", "net/code/__torch__.py"), "it is a TorchScript file"),
        (_zip("config.json", "model.weights.h5"), "it is a Keras model"),
        (_zip("net.onnx"), "it is a zip archive: unpack it first"),
        (_zip("net.onnx")[:40], "it is a broken zip archive"),
        (b"\x80\x02}q\x00.", "it is a pickle, as torch.save wrote them"),
        (save({"w": np.zeros(3, np.float32)}), "it is a .safetensors file"),
        (b"\x1c\0\0\0TFL3" + bytes(40), "it is a TensorFlow Lite model"),
        (b"\x1c\0\0\0ORTM" + bytes(40), "ONNX Runtime's own format (.ort)"),
        (b"\x89HDF\r\n\x1a\n" + bytes(40), "it is an HDF5 file"),
        (b"\n<!DOCTYPE html><html>404</html>", "it is an HTML page, perhaps an error page"),
        (b"<?xml version='1.0'?><net>", "it is XML; OpenVINO's .xml is no ONNX file either"),
        (json.dumps({"error": "Not Found"}).encode(), "it is JSON, perhaps an error answer"),
        (gzip.compress(b"net"), "it is packed by gzip"),
        (b"\xff\xd8\xff\xe0" + bytes(20), "it is a picture"),
    ],
    ids=lambda value: value[:24] if isinstance(value, str) else "",
)
def test_what_a_file_is_instead(
    content: bytes, words: str, export: Command, tmp_path: Path
) -> None:
    file = tmp_path / "net.onnx"
    file.write_bytes(content)
    reason = refused(export, tmp_path, file)
    assert "net.onnx is no ONNX file: " in reason
    assert words in reason


# --- build points at adopt ----------------------------------------------------------------------


def test_a_refusal_to_build_says_what_adopt_could_serve(export: Command, tmp_path: Path) -> None:
    adopt = "python -m export adopt FILE.onnx --name {} --preset PRESET"
    unknown = export("build", "my_own_net", "--output", tmp_path)
    assert adopt.format("my_own_net") in unknown.error
    weights = tmp_path / "weights.pth"
    torch.save({"conv1.weight": torch.zeros(3)}, weights)
    build = ("build", "lenet5", "--output", tmp_path, "--weights")
    assert adopt.format("lenet5") in export(*build, weights).error
    file = plain(tmp_path / "net.onnx")
    reason = export(*build, file).error
    assert f"net.onnx is an ONNX file: python -m export adopt {file} --name lenet5" in reason
    assert "adopt net.onnx --name NAME" in export("build", "net.onnx", "--output", tmp_path).error
    assert "adopt" not in export(*build, tmp_path / "none.pth").error
    assert "adopt" not in export("build", "lenet5", "--seed", 1, "--output", tmp_path).error
