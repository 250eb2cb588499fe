"""Run the foreign file as it came, in ONNX Runtime, through its own input.

Here numpy normalises the pictures in double precision, independently of the graph that adoption
writes: the adopted model is compared with this side.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
from onnx import TensorProto

from export.adoption.foreign import Foreign
from export.adoption.runtime import RuntimeRefusal, first_line, session
from export.data.mean_image import MeanImage
from export.errors import ForeignModelRefused
from service.manifest import Input

Pixels = npt.NDArray[np.uint8]
Pictures = npt.NDArray[np.generic]
Rows = npt.NDArray[np.generic]

TREMOR = 2.0**-22
"""How far two correct normalisations may differ, as a share of the largest input: two ulps."""
HALF_TREMOR = 2.0**-11
"""The same, as a share of each number, where the file takes halves or rounds its input to them."""
_FLOATS = ("float16", "float32", "float64")


class Original:
    """The foreign file, untouched: pictures through its own input, one after the other."""

    def __init__(
        self,
        foreign: Foreign,
        input: Input,  # noqa: A002
        mean_image: MeanImage | None = None,
    ) -> None:
        """Open the file and run one picture. Raises ForeignModelRefused where that fails."""
        self.foreign = foreign
        self.input = input
        mean = np.reshape(input.mean, (1, 1, -1)) if mean_image is None else mean_image
        self.mean: npt.NDArray[np.float64] = mean.astype(np.float64)
        """What is subtracted: float64 [1, 1, C], or a mean image [H, W, C]."""
        self._session = _opened(foreign)
        gray = np.full((1, input.height, input.width, input.channels), 128, np.uint8)
        self.classes = self._count_classes(self._answer(self.pictures(gray)[0]))

    def pictures(self, crops: Pixels, tremor: np.random.Generator | None = None) -> Pictures:
        """Normalise crops uint8 [N, H, W, C] in RGB to what the foreign input takes, [N, ...].

        With ``tremor`` every number moves up or down by as much as two correct normalisations
        may differ.
        """
        signature = self.foreign.signature
        ordered = crops[..., ::-1] if self.input.color == "BGR" else crops
        if signature.layout == "nchw":
            ordered = np.moveaxis(ordered, -1, 1)
        if signature.type == TensorProto.UINT8:
            return np.ascontiguousarray(ordered)
        mean, std = self.mean, np.reshape(self.input.std, (1, 1, -1))
        if signature.layout == "nchw":
            mean, std = np.moveaxis(mean, -1, 0), np.moveaxis(std, -1, 0)
        normalised = (ordered.astype(np.float64) * self.input.rescale - mean) / std
        if tremor is not None:
            signs = tremor.integers(0, 2, normalised.shape) * 2 - 1
            move = TREMOR * np.abs(normalised).max()
            if self.foreign.halves:
                move = np.maximum(move, HALF_TREMOR * np.abs(normalised))
            normalised += signs * move
        return np.ascontiguousarray(normalised.astype(np.float32).astype(signature.dtype))

    def rows(self, pictures: Pictures) -> Rows:
        """Return the raw answers [N, classes] to pictures [N, ...], each computed by itself."""
        one_by_one = [self._answer(picture)[:1].reshape(1, -1) for picture in pictures]
        return np.concatenate(one_by_one)

    def _answer(self, picture: Pictures) -> Rows:
        """Return the file's output for one picture, repeated to the batch size it is fixed to."""
        signature = self.foreign.signature
        batch = np.repeat(picture[None], signature.batch or 1, axis=0)
        try:
            (answer,) = self._session.run([signature.output], {signature.input: batch})
        except Exception as error:  # ONNX Runtime's exceptions have no common base
            raise ForeignModelRefused(
                f"ONNX Runtime cannot run {self.foreign.file.name}: {first_line(error)}"
            ) from error
        return np.asarray(answer)

    def _count_classes(self, answer: Rows) -> int:
        """Return the number of classes by the shape of an answer.

        Raises ForeignModelRefused where it is no row of numbers.
        """
        batch = self.foreign.signature.batch or 1
        name = self.foreign.signature.output
        if str(answer.dtype) not in _FLOATS:
            raise ForeignModelRefused(f"its output {name} is {answer.dtype}, not probabilities")
        long = [length for length in answer.shape[1:] if length != 1]
        if answer.ndim < 2 or answer.shape[0] != batch or len(long) > 1:
            raise ForeignModelRefused(
                f"its output {name} is {list(answer.shape)} for a batch of {batch}, not a row of "
                "classes per picture: it is no classifier"
            )
        if not long:
            raise ForeignModelRefused(f"its output {name} has one class: it is no classifier")
        return int(long[0])


def _opened(foreign: Foreign) -> ort.InferenceSession:
    """Open a session of the file as it came, or with its nodes sorted where it needs that."""
    try:
        return session(foreign.file)
    except RuntimeRefusal as refusal:
        if not foreign.reordered:
            raise ForeignModelRefused(
                f"ONNX Runtime cannot open {foreign.file.name}: {refusal}"
            ) from refusal
    try:  # ONNX Runtime sorts the graph, but no subgraph
        return session(foreign.model)
    except RuntimeRefusal as refusal:
        raise ForeignModelRefused(
            f"ONNX Runtime cannot open {foreign.file.name}, nor with its nodes sorted: {refusal}"
        ) from refusal
