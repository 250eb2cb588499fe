"""Small foreign classifiers, each with habits of its own, and their answers by their own input.

Nothing of export/adoption is used here: pictures are cut by torchvision and normalised by torch.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms import v2

Floats = npt.NDArray[np.floating]
SIDE = 65
CLASSES = 1000
FEATURES = 800


class Net(nn.Module):
    """Two convolutions and a linear layer; seeded, and its answers differ between pictures."""

    def __init__(
        self, classes: int = CLASSES, *, softmax: bool = False, view: bool = False
    ) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.features = nn.Sequential(
                *(nn.Conv2d(3, 16, 5, stride=3), nn.BatchNorm2d(16), nn.ReLU()),
                *(nn.Conv2d(16, 32, 3, stride=2), nn.ReLU(), nn.AvgPool2d(2)),
            )
            self.head = nn.Linear(FEATURES, classes)
        with torch.no_grad():
            self.head.weight.mul_(10)
        self.softmax, self.view = softmax, view
        self.eval()

    def forward(self, pictures: Tensor) -> Tensor:
        maps = self.features(pictures)
        # what d2l and many exports do: the batch becomes a constant of the graph
        flat = maps.view(1, -1) if self.view else torch.flatten(maps, 1)
        logits = self.head(flat)
        return torch.softmax(logits, 1) if self.softmax else logits


def torchscript(
    file: Path,
    network: nn.Module,
    opset: int = 12,
    names: tuple[str, str] = ("input", "output"),
    **options: Any,
) -> Path:
    """Export as PyTorch did until 2.8, for one picture."""
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (torch.zeros(1, 3, SIDE, SIDE),),
            file,
            dynamo=False,
            opset_version=opset,
            input_names=[names[0]],
            output_names=[names[1]],
            **options,
        )
    return file


@dataclass
class Hand:
    """A graph made node by node, as files of 2018 were."""

    opset: int
    input: Sequence[int | str | None]
    output: Sequence[int | str | None]
    ir_version: int = 3
    type: int = TensorProto.FLOAT

    def __post_init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.random = np.random.default_rng(0)

    def node(
        self, operator: str, *inputs: str, name: str = "", domain: str = "", **more: Any
    ) -> str:
        name = name or f"{operator}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], domain=domain, **more))
        return name

    def weight(self, *shape: int, gain: float = 1.4) -> str:
        values = self.random.normal(0, gain / np.prod(shape[1:]) ** 0.5, shape)
        return self.constant(values.astype(np.float32))

    def constant(self, values: npt.ArrayLike) -> str:
        name = f"weight_{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def features(self, name: str = "data", channels: int = 3) -> str:
        """[N, channels, 65, 65] -> [N, 32, 5, 5]."""
        name = self.node("Conv", name, self.weight(16, channels, 5, 5), strides=[3, 3])
        name = self.node("Relu", name)
        name = self.node("Conv", name, self.weight(32, 16, 3, 3), strides=[2, 2])
        name = self.node("Relu", name)
        return self.node("AveragePool", name, kernel_shape=[2, 2], strides=[2, 2])

    def save(self, file: Path, output: str, *, listed: bool = False, **options: Any) -> Path:
        """Write the file; with ``listed`` the weights are inputs as well, as IR 3 wants it."""
        inputs = [helper.make_tensor_value_info("data", self.type, self.input)]
        if listed:
            inputs += [
                helper.make_tensor_value_info(w.name, w.data_type, w.dims) for w in self.weights
            ]
        graph = helper.make_graph(
            self.nodes,
            "foreign",
            inputs,
            [helper.make_tensor_value_info(output, self.type, self.output)],
            self.weights,
        )
        domains = {node.domain for node in self.nodes} - {""}
        model = helper.make_model(
            graph,
            ir_version=self.ir_version,
            opset_imports=[
                helper.make_opsetid("", self.opset),
                *(helper.make_opsetid(domain, 1) for domain in domains),
            ],
        )
        onnx.save(model, file, **options)
        return file


def caffe_like(file: Path, opset: int = 7, *, listed: bool = True) -> Path:
    """The habits of BVLC's files: IR 3, weights listed as inputs, LRN, Reshape to [1, -1]."""
    hand = Hand(opset, [1, 3, SIDE, SIDE], [1, CLASSES])
    maps = hand.node("LRN", hand.features(), size=5, alpha=1e-4, beta=0.75, bias=1.0)
    flat = hand.node("Reshape", maps, hand.constant(np.array([1, -1])))
    drop = hand.node("Dropout", flat, ratio=0.5)
    bias = hand.constant(np.zeros(CLASSES, np.float32))
    scores = hand.node("Gemm", drop, hand.weight(CLASSES, FEATURES, gain=0.2), bias, transB=1)
    return hand.save(file, hand.node("Softmax", scores, name="prob_1", axis=1), listed=listed)


def reference(
    file: Path,
    picture: bytes,
    normalise: Callable[[Tensor], Tensor],
    *,
    resize: int = 74,
    interpolation: str = "bilinear",
    side: int = SIDE,
    square: bool = False,
) -> Floats:
    """The raw answer of the file as it came to one picture: [1, ...].

    ``normalise`` gets RGB float32 [1, 3, side, side] of 0 to 255, and makes the file's own input.
    """
    with Image.open(io.BytesIO(picture)) as opened:
        image = opened.convert("RGB")
    crops = [v2.CenterCrop(resize)] if square else []
    resized = v2.Resize(resize, v2.InterpolationMode(interpolation))
    cut = v2.Compose([resized, *crops, v2.CenterCrop(side)])
    pixels = torch.from_numpy(np.array(cut(image))).permute(2, 0, 1)[None].float()
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(os.fspath(file), options, providers=["CPUExecutionProvider"])
    value = normalise(pixels).numpy()
    answer: Floats = session.run(None, {session.get_inputs()[0].name: value})[0]
    return answer


def torchvision(pixels: Tensor) -> Tensor:
    """RGB 0 to 255 -> ImageNet's mean and deviation."""
    mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    std = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    return (pixels / 255 - mean) / std


def caffe(pixels: Tensor) -> Tensor:
    """RGB 0 to 255 -> BGR minus the mean colour."""
    return pixels.flip(1) - torch.tensor([103.939, 116.779, 123.68])[:, None, None]
