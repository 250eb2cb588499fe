"""The proof of an adopted model: the file as it came, against what we serve, from the picture on.

One side is the foreign ONNX file in ONNX Runtime, fed through its own input with pictures that
torchvision cut and numpy normalised. The other is the adopted model behind the service's own
decoding and cropping.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from PIL import Image
from torchvision.transforms import v2

from export.adoption import graft
from export.adoption.original import TREMOR, Original, Pictures, Pixels, Rows
from export.adoption.runtime import session
from export.adoption.tail import Tail, Tap, softmax
from export.errors import ProofFailed
from export.parity import (
    MAX_LOGIT_DIFFERENCE,
    Answers,
    Exported,
    Parity,
    Tolerance,
    compare,
)
from service.manifest import Input, ProtocolName, Resize
from service.protocols import PROTOCOLS

Floats = npt.NDArray[np.floating]
Wide = npt.NDArray[np.float64]

PROVEN: tuple[ProtocolName, ...] = ("center", "ten_crop")
"""The protocols that torchvision has; others cut crops for the same graph."""

_FLOOR = 1e-30
"""Probabilities below are compared as if they were this: single precision ends at 1e-38."""
_HALF_FLOOR = 2.0**-14
"""The same in half precision, which has 11 bits down to here and fewer below."""
_HALF_LOGIT = 1e-2
"""Allowed between logits, in their standard deviations, where probabilities are halves: an ulp
is up to 1e-3 of a value, and the deviation of flat answers is a tenth."""
_HALF_ULP = 2.0**-10
_TREMORS = 2
_MARGIN = 2
"""The own unrest of a rounded network is measured on a few pictures; on others it is more."""
_MOST_PROBABILITY = 0.1
_MOST_LOGIT = 0.5
"""A network with more unrest than this cannot be compared with anything."""
_FEW_CLASSES = 10
_BATCH = 8


class Truth:
    """What the foreign file says of pictures: its probabilities, and logits up to a constant."""

    def __init__(self, original: Original, tail: Tail, *, skip_first: bool) -> None:
        self.original = original
        self.tail = tail
        self.skip_first = skip_first
        self.classes = original.classes - skip_first
        # what a quantised Softmax yields is too coarse to be compared; what it is fed is not
        self._tap = Tap(original.foreign, tail) if tail.kind == "rounded softmax" else None

    @property
    def rounds(self) -> bool:
        """Whether the file computes in less than single precision."""
        return self.original.foreign.precision != "fp32"

    def answers(
        self, crops: Pixels, tremor: np.random.Generator | None = None
    ) -> tuple[Wide, Wide]:
        """(probabilities, logits or log(p)) [N, classes] of crops uint8 [N, H, W, C].

        Without the class that is skipped. See `Original.pictures` for ``tremor``.
        """
        return self.answers_to(self.original.pictures(crops, tremor))

    def answers_to(self, pictures: Pictures) -> tuple[Wide, Wide]:
        """The same of what the file takes, [N, ...]."""
        first = 1 if self.skip_first else 0
        source = self._tap or self.original
        rows = source.rows(pictures).astype(np.float64)
        if self.tail.kind in ("logits", "rounded softmax"):
            return softmax(rows[:, first:]), rows[:, first:]
        probabilities: Wide = rows[:, first:]
        if self.skip_first:
            probabilities = probabilities / probabilities.sum(axis=1, keepdims=True)
        return probabilities, self._logarithms(probabilities)

    def comparable(self, logits: Rows) -> Wide:
        """The adopted model's logits in the form that ``answers`` has."""
        if self.tail.kind in ("logits", "rounded softmax"):
            return logits.astype(np.float64)
        return self._logarithms(softmax(logits))

    def _logarithms(self, probabilities: Wide) -> Wide:
        """log(p), down to what the file's precision can tell from 0."""
        floor = _HALF_FLOOR if self.original.foreign.precision == "fp16" else _FLOOR
        logarithms: Wide = np.log(np.maximum(probabilities, floor))
        return logarithms


def tolerance(truth: Truth, crops: Pixels) -> Tolerance:
    """How far the adopted model may be from the file.

    In single precision as far as any export. A network that rounds (to bytes, to halves) may
    round the other way when its input moves by a rounding error: so the file is run on ``crops``
    as they are and moved by two ulps, and twice its own unrest is allowed.
    """
    strict = narrow(truth)
    if not truth.rounds:
        return strict
    still = _rows(*truth.answers(crops))
    probability, logit = strict.probability, strict.logit
    for seed in range(_TREMORS):
        unrest = compare(still, _rows(*truth.answers(crops, np.random.default_rng(seed))))
        probability = max(probability, _MARGIN * unrest.probability_difference)
        logit = max(logit, _MARGIN * unrest.logit_difference)
    return replace(
        strict,
        probability=min(probability, _MOST_PROBABILITY),
        logit=min(logit, _MOST_LOGIT),
    )


def narrow(truth: Truth) -> Tolerance:
    """How far the adopted graph may be from the file when both are fed the same numbers."""
    half = truth.original.foreign.precision == "fp16" and truth.tail.kind != "logits"
    return Tolerance(
        logit=_HALF_LOGIT if half else MAX_LOGIT_DIFFERENCE,
        distinct=truth.classes >= _FEW_CLASSES,
    )


def prove(
    truth: Truth,
    exported: Exported,
    pictures: Mapping[str, bytes],
    report: Callable[[str], None] = lambda _: None,
) -> dict[str, Parity]:
    """Compare both sides on every picture by protocol, and batches with their members.

    Returns the agreement under the names of the protocols and ``batch``; where the file rounds,
    also under ``network``: both sides fed the numbers that the adopted graph makes of the pixels.
    Raises ProofFailed when those numbers are not the file's own input.
    """
    manifest = exported.manifest
    found: dict[str, Parity] = {}
    centres = [crops_of(p, manifest.input, manifest.resize, "center") for p in pictures.values()]
    allowed = tolerance(truth, np.concatenate(centres))
    for protocol in PROVEN:
        if protocol not in manifest.protocols.names:
            continue
        report(f"comparing {len(pictures)} pictures, protocol {protocol}")
        expected, measured = [], []
        for picture in pictures.values():
            crops = crops_of(picture, manifest.input, manifest.resize, protocol)
            said, because = truth.answers(crops)
            expected.append((said.mean(axis=0), because))
            probabilities, logits = exported.run(exported.crops(picture, protocol))
            answer = PROTOCOLS[protocol].answer([probabilities])
            measured.append((answer, truth.comparable(logits)))
        found[protocol] = compare(_stacked(expected), _stacked(measured), allowed)
    if truth.rounds:
        report("comparing the network alone")
        found["network"] = _network(truth, exported, list(pictures.values()))
    report("comparing a batch with its members")
    found["batch"] = _batch(truth, exported, list(pictures.values())[:_BATCH], allowed)
    return found


def _network(truth: Truth, exported: Exported, pictures: list[bytes]) -> Parity:
    """Compare the adopted graph with the file fed what the adopted graph's own head makes."""
    original = truth.original
    head = session(graft.normalisation(original.foreign, original.input, original.mean))
    expected, measured = [], []
    for picture in pictures:
        crops = exported.crops(picture, "center")
        (fed,) = head.run(None, {"pixels": crops})
        own = original.pictures(crops).astype(np.float64)
        gap = float(np.abs(fed - own).max() / max(np.abs(own).max(), 1))
        if not gap <= (_HALF_ULP if fed.dtype == np.float16 else TREMOR):
            raise ProofFailed(
                f"pixels are normalised otherwise than for the file: off by {gap:.2g}"
            )
        said, because = truth.answers_to(fed)
        expected.append((said[0], because))
        probabilities, logits = exported.run(crops)
        measured.append((probabilities[0], truth.comparable(logits)))
    return compare(_stacked(expected), _stacked(measured), narrow(truth))


def _batch(truth: Truth, exported: Exported, pictures: list[bytes], allowed: Tolerance) -> Parity:
    crops = [exported.crops(picture, "center") for picture in pictures]
    alone = [exported.run(crop) for crop in crops]
    together = zip(*exported.run(np.concatenate(crops)), strict=True)
    return compare(
        _stacked([(p[0], truth.comparable(logits)) for p, logits in alone]),
        _stacked([(p, truth.comparable(logits[None])) for p, logits in together]),
        allowed,
    )


def _rows(probabilities: Wide, logits: Wide) -> Answers:
    """Answers to crops [N, classes], each taken for a picture."""
    return _stacked(list(zip(probabilities, logits[:, None], strict=True)))


def _stacked(pairs: Sequence[tuple[Floats, Floats]]) -> Answers:
    """Answers of (probabilities [classes], logits [crops, classes]) per picture."""
    probabilities, logits = (np.stack(side).astype(np.float32) for side in zip(*pairs, strict=True))
    return Answers(probabilities, logits)


def crops_of(
    picture: bytes,
    input: Input,  # noqa: A002
    resize: Resize,
    protocol: ProtocolName,
) -> Pixels:
    """Crops of an encoded picture as torchvision cuts them: uint8 [N, H, W, C], RGB or gray."""
    crop = (input.height, input.width)
    size = {
        "shortest_side": resize.size,
        "square": (resize.size, resize.size),
        "exact": crop,
    }[resize.rule]
    with Image.open(io.BytesIO(picture)) as opened:
        image = opened.convert("RGB")
    if input.color == "L":
        image = image.convert("L")
    # resized by Pillow, whose filters widen when they shrink
    resized = v2.Resize(size, v2.InterpolationMode(resize.interpolation))(image)
    if resize.centre_square:
        resized = v2.CenterCrop(resize.size)(resized)
    cut = v2.TenCrop(crop) if protocol == "ten_crop" else v2.CenterCrop(crop)
    images = cut(resized)
    crops = [np.asarray(one) for one in (images if isinstance(images, tuple) else [images])]
    return np.stack(crops).reshape(len(crops), *crop, input.channels)
