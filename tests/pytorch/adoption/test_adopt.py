from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static
from onnxruntime.transformers.float16 import convert_float_to_float16
from torch import Tensor

from export.data import pictures
from service.engine.session import Outputs, Session
from service.imaging.decode import decode
from service.imaging.protocols import PROTOCOLS
from service.manifest import Manifest
from service.repository import versions_on_disk
from tests.pytorch.conftest import Command, Outcome
from tests.pytorch.foreign_files import (
    CLASSES,
    FEATURES,
    SIDE,
    Floats,
    Hand,
    Net,
    caffe,
    caffe_like,
    reference,
    torchscript,
    torchvision,
)

Normalise = Callable[[Tensor], Tensor]
# every other photograph, and random pictures that the proof does not have
PICTURES = {
    **dict(list(pictures.photographs().items())[::2]),
    **dict(list(pictures.random_pictures(7).items())[:3]),
}


def adopted(
    export: Command, file: Path, *arguments: object, preset: str = "torchvision"
) -> Outcome:
    outcome = export(
        *("adopt", file, "--name", "it", "--preset", preset, "--output", file.parent / "models"),
        *("--protocols", "center", *arguments),
    )
    assert (outcome.code, outcome.err) == (0, ""), outcome.err
    return outcome


def served(models: Path) -> tuple[Manifest, Session]:
    """The model as the service opens it: checked, warmed up for batches of 1 and 3."""
    (found,) = versions_on_disk.find(models)
    manifest = versions_on_disk.read(found)
    assert isinstance(manifest, Manifest)
    versions_on_disk.check_files(found.path, manifest)
    assert len(versions_on_disk.labels(found.path, manifest)) == manifest.classes
    session = Session(found.path / "model.onnx", manifest, ["cpu"])
    session.warm_up(1)
    session.warm_up(3)
    return manifest, session


def answers(models: Path) -> Outputs:
    """The service's answers to all pictures, as one batch."""
    manifest, session = served(models)
    crops = [PROTOCOLS["center"].crops(decode(p), manifest)[0] for p in PICTURES.values()]
    return session.run(np.concatenate(crops))


def same(
    file: Path, normalise: Normalise, *, logits: bool | None, tolerance: float = 1e-4, **cut: Any
) -> Outputs:
    """Compare the adopted model beside ``file`` with the file; ``logits``: what the file yields.

    None: logits whose probabilities alone are compared.
    """
    ours = answers(file.parent / "models")
    rows = [reference(file, p, normalise, **cut) for p in PICTURES.values()]
    theirs: np.ndarray = np.concatenate([row.reshape(1, -1) for row in rows]).astype(np.float64)
    if logits is None:
        theirs = softmax(theirs)
    elif logits:
        assert np.abs(ours.logits - theirs).max() <= 1e-3 * theirs.std()
        theirs = softmax(theirs)
    assert np.abs(ours.probabilities - theirs).max() <= tolerance
    assert np.abs(softmax(ours.logits) - ours.probabilities).max() <= max(1e-5, tolerance / 10)
    assert len({int(row.argmax()) for row in theirs}) >= 4  # a constant answer would prove nothing
    return ours


def softmax(logits: Floats) -> Floats:
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("softmax", [False, True], ids=["logits", "softmax"])
def test_a_torchscript_export_of_one_picture(
    softmax: bool, export: Command, tmp_path: Path
) -> None:
    # its tensors have our own names, and its batch is a constant of the graph
    names = ("pixels", "probabilities") if softmax else ("input", "logits")
    network = Net(softmax=softmax, view=True)
    file = torchscript(tmp_path / "net.onnx", network, names=names)
    outcome = adopted(export, file)
    assert "opset: 12 converted to 20" in outcome.out
    assert "batch: any: the file's 1 was taken out of its shapes" in outcome.out
    same(file, torchvision, logits=not softmax)
    assert served(tmp_path / "models")[0].file("model").opset == 20


def test_the_ten_crops_are_proved_as_well(export: Command, tmp_path: Path) -> None:
    file = torchscript(tmp_path / "net.onnx", Net())
    outcome = export(
        "adopt", file, "--name", "it", "--preset", "timm", "--output", tmp_path / "models"
    )
    assert (outcome.code, outcome.err) == (0, "")
    for part in ("center", "ten_crop", "batch"):
        assert f"it {part}: passed" in outcome.out
    manifest, _ = served(tmp_path / "models")
    assert manifest.protocols.names == ("center", "ten_crop")
    assert (manifest.resize.size, manifest.resize.interpolation) == (74, "bicubic")
    verification = manifest.verification
    assert verification is not None
    assert (verification.passed, verification.pictures) == (True, 16)


@pytest.mark.parametrize("opset", [7, 9])
def test_a_caffe_file_of_2018(opset: int, export: Command, tmp_path: Path) -> None:
    file = caffe_like(tmp_path / "bvlc.onnx", opset)
    adopted(export, file, "--resize", 74, preset="caffe")
    same(file, caffe, logits=False)
    model = onnx.load(tmp_path / "models" / "it" / "1" / "model.onnx")
    assert [value.name for value in model.graph.input] == ["pixels"]
    assert "Dropout" in {n.op_type for n in model.graph.node}  # nothing of it was rewritten


def test_an_opset_that_onnx_cannot_convert_is_kept(export: Command, tmp_path: Path) -> None:
    hand = Hand(7, [1, 3, SIDE, SIDE], [1, CLASSES])
    # withdrawn from ONNX after 1.1; ONNX Runtime still has it
    scaled = hand.node("ImageScaler", "data", scale=0.5, bias=[1.0, 2.0, 3.0])
    maps = hand.node("Flatten", hand.features(scaled))
    bias = hand.constant(np.zeros(CLASSES, np.float32))
    weight = hand.weight(CLASSES, FEATURES, gain=0.4)
    hand.node("Gemm", maps, weight, bias, name="scores", transB=1)
    file = hand.save(tmp_path / "old.onnx", "scores", listed=True)
    outcome = adopted(export, file, "--resize", 74, preset="caffe")
    assert "opset: 7 kept (onnx cannot convert it" in outcome.out
    same(file, caffe, logits=True)
    assert served(tmp_path / "models")[0].file("model").opset == 7


def test_channels_last_and_a_background_class(export: Command, tmp_path: Path) -> None:
    hand = Hand(13, ["batch", SIDE, SIDE, 3], ["batch", CLASSES + 1], ir_version=7)
    maps = hand.features(hand.node("Transpose", "data", perm=[0, 3, 1, 2]))
    shape = hand.constant(np.array([-1, FEATURES]))
    flat = hand.node("Reshape", maps, shape)
    scores = hand.node("MatMul", flat, hand.weight(FEATURES, CLASSES + 1, gain=20.0))
    file = hand.save(tmp_path / "tf.onnx", hand.node("Softmax", scores, name="soft", axis=-1))
    outcome = adopted(export, file, "--skip-first", preset="tensorflow")
    assert "batch: any, as in the file" in outcome.out
    assert "classes: the first was dropped" in outcome.out
    ours = answers(tmp_path / "models")
    rows = [
        reference(file, p, lambda x: (x / 127.5 - 1).permute(0, 2, 3, 1)) for p in PICTURES.values()
    ]
    theirs = np.concatenate(rows)[:, 1:]
    theirs = theirs / theirs.sum(axis=1, keepdims=True)
    assert np.abs(ours.probabilities - theirs).max() <= 1e-4
    assert len({int(row.argmax()) for row in theirs}) >= 4


def test_maps_of_one_pixel_and_a_size_of_choice(export: Command, tmp_path: Path) -> None:
    # SqueezeNet's end: convolution, pooling and a Softmax over [N, C, 1, 1]
    hand = Hand(11, [None, 3, "h", "w"], [None, CLASSES, 1, 1], ir_version=6)
    maps = hand.node("Conv", hand.features(), hand.weight(CLASSES, 32, 1, 1, gain=12.0))
    pooled = hand.node("GlobalAveragePool", maps)
    file = hand.save(tmp_path / "squeeze.onnx", hand.node("Softmax", pooled, axis=1))
    adopted(export, file, "--size", SIDE)
    same(file, torchvision, logits=False)


def test_probabilities_alone_give_logarithms(export: Command, tmp_path: Path) -> None:
    hand = Hand(13, [1, 3, SIDE, SIDE], [1, CLASSES], ir_version=7)
    scores = hand.node(
        "MatMul", hand.node("Flatten", hand.features()), hand.weight(FEATURES, CLASSES, gain=3.0)
    )
    powers = hand.node("Exp", scores)
    total = hand.node("ReduceSum", powers, hand.constant(np.array([1])))
    file = hand.save(tmp_path / "exp.onnx", hand.node("Div", powers, total, name="p"))
    assert "logits: log(p)" in adopted(export, file).out
    ours = same(file, torchvision, logits=False)
    assert np.isfinite(ours.logits).all()


def test_half_precision(export: Command, tmp_path: Path) -> None:
    single = onnx.load(torchscript(tmp_path / "single.onnx", Net(softmax=True)))
    file = tmp_path / "half.onnx"
    onnx.save(convert_float_to_float16(single), file)
    assert onnx.load(file).graph.input[0].type.tensor_type.elem_type == TensorProto.FLOAT16
    adopted(export, file)
    same(file, lambda x: torchvision(x).half(), logits=False, tolerance=2e-3)
    assert served(tmp_path / "models")[0].file("model").precision == "fp16"


class Calibration(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self) -> None:
        random = np.random.default_rng(0)
        shape = (1, 3, SIDE, SIDE)
        self.batches = iter(
            [{"input": random.normal(0, 1.2, shape).astype("f4")} for _ in range(6)]
        )

    def get_next(self) -> dict[str, Floats] | None:
        return next(self.batches, None)


@pytest.mark.parametrize("softmax", [False, True], ids=["logits", "softmax"])
@pytest.mark.parametrize("form", [QuantFormat.QDQ, QuantFormat.QOperator])
def test_quantised(form: QuantFormat, softmax: bool, export: Command, tmp_path: Path) -> None:
    single = torchscript(tmp_path / "single.onnx", Net(softmax=softmax), opset=17)
    file = tmp_path / "int8.onnx"
    quantize_static(single, file, Calibration(), quant_format=form, per_channel=True)
    outcome = adopted(export, file)
    # with a Softmax, ONNX Runtime's quantiser rounds probabilities to 1/256
    if softmax:
        same(file, torchvision, logits=False, tolerance=0.01)
    else:
        same(file, torchvision, logits=True)
    assert "it network: passed" in outcome.out
    assert ("quantised in steps of 0.0039" in outcome.out) is softmax
    assert served(tmp_path / "models")[0].file("model").precision == "int8"


def test_external_data_beside_the_file(export: Command, tmp_path: Path) -> None:
    single = onnx.load(torchscript(tmp_path / "single.onnx", Net()))
    file = tmp_path / "split.onnx"
    onnx.save(single, file, save_as_external_data=True, location="split.data", size_threshold=0)
    assert file.stat().st_size < 10_000
    adopted(export, file)
    same(file, torchvision, logits=True)
    assert "split.data" in (tmp_path / "models" / "it" / "1" / "NOTICE").read_text("utf-8")


def test_a_graph_for_one_picture_only_is_looped(export: Command, tmp_path: Path) -> None:
    hand = Hand(13, [1, 3, SIDE, SIDE], [1, CLASSES], ir_version=7)
    # without its batch, the picture's channels look like a batch
    alone = hand.node("Squeeze", hand.features(), hand.constant(np.array([0])))
    flat = hand.node("Reshape", alone, hand.constant(np.array([1, FEATURES])))
    row = hand.node("Squeeze", flat, hand.constant(np.array([0])))
    scores = hand.node("MatMul", row, hand.weight(FEATURES, CLASSES, gain=20.0))
    file = hand.save(
        tmp_path / "one.onnx", hand.node("Unsqueeze", scores, hand.constant(np.array([0])))
    )
    outcome = adopted(export, file)
    assert "batch: any, one picture after the other" in outcome.out
    same(file, torchvision, logits=True)
    model = onnx.load(tmp_path / "models" / "it" / "1" / "model.onnx")
    assert "Loop" in {node.op_type for node in model.graph.node}


def test_a_file_for_four_pictures_at_once(export: Command, tmp_path: Path) -> None:
    hand = Hand(13, [4, 3, SIDE, SIDE], [4, CLASSES], ir_version=7)
    flat = hand.node("Reshape", hand.features(), hand.constant(np.array([4, FEATURES])))
    scores = hand.node("MatMul", flat, hand.weight(FEATURES, CLASSES, gain=20.0))
    file = hand.save(tmp_path / "four.onnx", scores)
    adopted(export, file)
    ours = answers(tmp_path / "models")
    rows = [
        reference(file, p, lambda x: torchvision(x).repeat(4, 1, 1, 1)) for p in PICTURES.values()
    ]
    theirs = softmax(np.stack([row[0] for row in rows]))
    assert np.abs(ours.probabilities - theirs).max() <= 1e-4


def test_gray_pictures_and_few_classes(export: Command, tmp_path: Path) -> None:
    hand = Hand(13, ["n", 1, SIDE, SIDE], ["n", 3], ir_version=7)
    flat = hand.node("Flatten", hand.features(channels=1))
    hand.node("MatMul", flat, hand.weight(FEATURES, 3, gain=5.0), name="scores")
    file = hand.save(tmp_path / "gray.onnx", "scores")
    labels = tmp_path / "names.txt"
    labels.write_text("dog\ncat\nneither\n")
    adopted(export, file, "--labels", labels, "--activation", "softmax", preset="zero_one")
    manifest, _ = served(tmp_path / "models")
    assert (manifest.input.color, manifest.input.channels, manifest.classes) == ("L", 1, 3)


def test_a_mean_image_and_the_centre_square(export: Command, tmp_path: Path) -> None:
    file = torchscript(tmp_path / "net.onnx", Net())
    mean = np.random.default_rng(3).uniform(60, 180, (90, 80, 3)).astype(np.float32)
    np.save(tmp_path / "mean.npy", mean)
    adopted(
        *(export, file, "--resize", 80, "--centre-square"),
        *("--mean-image", tmp_path / "mean.npy"),
        preset="caffe",
    )
    manifest, _ = served(tmp_path / "models")
    assert manifest.resize.centre_square
    assert manifest.input.mean_image == manifest.file("mean_image").path
    cut = torch.from_numpy(mean[12:77, 7:72]).permute(2, 0, 1)
    same(file, lambda x: x.flip(1) - cut, logits=True, resize=80, square=True)
    image = ["--mean-image", tmp_path / "mean.npy"]
    for refused in (["--mean", "1,2,3", *image], ["--centre-square", "--rule", "square"]):
        outcome = export("adopt", file, "--name", "x", "--preset", "caffe", *refused)
        assert outcome.code == 2


def test_the_manifest_says_what_is_known(export: Command, tmp_path: Path) -> None:
    file = torchscript(tmp_path / "net.onnx", Net())
    adopted(export, file)
    manifest, _ = served(tmp_path / "models")
    assert (manifest.weights.source, manifest.weights.origin) == ("adopted", "net.onnx")
    assert manifest.weights.licence == "not stated"
    assert (manifest.year, manifest.paper) == (None, None)
    refused = export("verify", "it", "--models", tmp_path / "models")
    assert refused.code == 2
    assert "adopted from net.onnx" in refused.error
    # two convolutions (the batch norm is folded by the exporter) and the linear layer
    assert manifest.parameters == 3 * 16 * 25 + 16 + 16 * 32 * 9 + 32 + (FEATURES + 1) * CLASSES
    assert "not stated" in (tmp_path / "models/it/1/LICENSE").read_text("utf-8")
    adopted(
        *(export, file, "--force", "--licence", "Apache-2.0", "--network", "tiny", "--year", 2014),
        *("--paper-title", "A paper", "--paper-url", "https://example.org/p", "--family", "small"),
        *("--url", "https://example.org/net.onnx", "--mean", "0.5", "--std", "0.25,0.5,1"),
        *("--color", "BGR", "--rescale", "1/255", "--interpolation", "bicubic"),
    )
    manifest, _ = served(tmp_path / "models")
    assert (manifest.network, manifest.family, manifest.year) == ("tiny", "small", 2014)
    assert manifest.paper is not None
    assert (manifest.paper.title, manifest.weights.licence) == ("A paper", "Apache-2.0")
    assert manifest.weights.url == "https://example.org/net.onnx"
    assert (manifest.input.color, manifest.input.mean) == ("BGR", (0.5, 0.5, 0.5))
    text = (tmp_path / "models/it/1/LICENSE").read_text("utf-8")
    assert "TERMS AND CONDITIONS FOR USE, REPRODUCTION, AND DISTRIBUTION" in text
    std = torch.tensor([0.25, 0.5, 1.0])[:, None, None]
    same(file, lambda x: (x.flip(1) / 255 - 0.5) / std, logits=True, interpolation="bicubic")
