"""The pipeline that every peer runs: reference preprocessing by Pillow, then ONNX Runtime.

A peer's environment needs NumPy, Pillow, ONNX Runtime and its framework for it. What a server is
told it reads from the environment: ``PEER_MODEL`` (the ONNX file; manifest.json lies beside it),
``PEER_PORT`` and ``PEER_THREADS``.
"""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
from PIL import Image

TOP = 5
HOST = "127.0.0.1"


Answer = dict[str, list[dict[str, int | float]]]
"""What a peer answers as JSON: ``{"predictions": [{"index": …, "probability": …}, …]}``, the most
probable class first."""


def model() -> Path:
    """The ONNX file to serve."""
    return Path(os.environ["PEER_MODEL"])


def port() -> int:
    """Where to listen."""
    return int(os.environ["PEER_PORT"])


def threads() -> int:
    """Cores to keep busy."""
    return int(os.environ["PEER_THREADS"])


class Preprocessing:
    """Decode, RGB, resize of the whole picture by its shortest side, centre crop."""

    def __init__(self) -> None:
        manifest = json.loads(model().with_name("manifest.json").read_text())
        rule = manifest["resize"]["rule"], manifest["resize"]["interpolation"]
        if rule != ("shortest_side", "bicubic"):
            raise ValueError(f"only pictures resized by shortest_side, bicubic; not by {rule}")
        self._side: int = manifest["resize"]["size"]
        self._crop: tuple[int, int] = (manifest["input"]["width"], manifest["input"]["height"])

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels of a crop."""
        width, height = self._crop
        return height, width, 3

    def decode(self, encoded: bytes) -> npt.NDArray[np.uint8]:
        """A JPEG -> uint8 [height, width, 3]."""
        return self.cut(Image.open(io.BytesIO(encoded)))

    def cut(self, opened: Image.Image) -> npt.NDArray[np.uint8]:
        """An opened picture -> uint8 [height, width, 3], as torchvision resizes and crops."""
        picture = opened.convert("RGB")
        short, long = sorted(picture.size)
        long = int(self._side * long / short)
        upright = picture.width <= picture.height
        size = (self._side, long) if upright else (long, self._side)
        resized = picture.resize(size, Image.Resampling.BICUBIC)
        left, top = (
            round((whole - part) / 2) for whole, part in zip(size, self._crop, strict=True)
        )
        width, height = self._crop
        return np.asarray(resized.crop((left, top, left + width, top + height)))


class Network:
    """An ONNX Runtime session. It may be called by several threads at once."""

    def __init__(self, intra_op_threads: int = 1) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = intra_op_threads
        options.inter_op_num_threads = 1
        self._session: Any = onnxruntime.InferenceSession(
            model(), options, providers=["CPUExecutionProvider"]
        )
        self._input: str = self._session.get_inputs()[0].name

    def probabilities(self, crops: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Crops uint8 [N, height, width, 3] -> float32 [N, classes]."""
        outputs: list[npt.NDArray[np.float32]] = self._session.run(
            ["probabilities"], {self._input: crops}
        )
        return outputs[0]

    def __call__(self, crops: npt.NDArray[np.uint8]) -> list[Answer]:
        """Crops uint8 [N, height, width, 3] -> an answer for each."""
        return [answer(each) for each in self.probabilities(crops)]


def top(probabilities: npt.NDArray[np.float32]) -> npt.NDArray[np.intp]:
    """The indices of the most probable classes of float32 [classes]."""
    return np.argsort(-probabilities, kind="stable")[:TOP]


def answer(probabilities: npt.NDArray[np.float32]) -> Answer:
    """The five best classes of float32 [classes]."""
    best = top(probabilities)
    pairs = zip(best.tolist(), probabilities[best].tolist(), strict=True)
    return {"predictions": [{"index": index, "probability": value} for index, value in pairs]}
