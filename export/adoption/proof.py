"""The proof of an adopted model: the file as it came, against what we serve, from the picture on.

One side is the foreign ONNX file in ONNX Runtime, fed through its own input with pictures that
torchvision cut and numpy normalised. The other is the adopted model behind the service's own
decoding and cropping.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image
from torchvision.transforms import v2

from export.adoption.original import Original, Pixels, Rows
from export.adoption.tail import Tail, softmax
from export.parity import Answers, Exported, Parity, Tolerance, compare
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
_TREMORS = 2
_MARGIN = 2
"""The own unrest of a rounded network is measured on a few pictures; on others it is more."""
_MOST_PROBABILITY = 0.1
_MOST_LOGIT = 0.5
"""A network with more unrest than this cannot be compared with anything."""
_FEW_CLASSES = 10
_BATCH = 8


@dataclass(frozen=True)
class Truth:
    """What the foreign file means: its probabilities, and logits up to a constant."""

    original: Original
    tail: Tail
    skip_first: bool

    def probabilities(self, rows: Rows) -> Wide:
        """Probabilities [N, classes] of raw answers, without the class that is skipped."""
        wide = rows.astype(np.float64)
        wide = softmax(wide) if self.tail.kind == "logits" else wide
        if not self.skip_first:
            return wide
        kept: Wide = wide[:, 1:] / wide[:, 1:].sum(axis=1, keepdims=True)
        return kept

    def logits(self, rows: Rows) -> Wide:
        """What is compared with the adopted model's ``logits``: they, or log(p)."""
        if self.tail.kind == "logits":
            wide: Wide = rows.astype(np.float64)[:, 1 if self.skip_first else 0 :]
            return wide
        return self.logarithms(self.probabilities(rows))

    def comparable(self, logits: Rows) -> Wide:
        """The adopted model's logits as ``logits`` gives the file's."""
        if self.tail.kind == "logits":
            return logits.astype(np.float64)
        return self.logarithms(softmax(logits))

    def logarithms(self, probabilities: Wide) -> Wide:
        """log(p), down to what the file's precision can tell from 0."""
        floor = _FLOOR
        if self.original.foreign.precision == "fp16":
            floor = _HALF_FLOOR
        if self.tail.step:
            floor = self.tail.step
        logarithms: Wide = np.log(np.maximum(probabilities, floor))
        return logarithms


def tolerance(truth: Truth, crops: Pixels) -> Tolerance:
    """How far the adopted model may be from the file.

    In single precision as far as any export. A network that rounds (to bytes, to halves) may
    round the other way when its input moves by a rounding error: so the file is run on ``crops``
    as they are and moved by two ulps, and twice its own unrest is allowed. Where the file rounds
    its probabilities themselves, one step of them is allowed, and logits are not compared.
    """
    original = truth.original
    precision = original.foreign.precision
    strict = Tolerance(distinct=original.classes - truth.skip_first >= _FEW_CLASSES)
    if precision == "fp32":
        return strict
    still = _answers(truth, original.rows(original.pictures(crops)))
    probability, logit = strict.probability, strict.logit or 0.0
    if precision == "fp16" and truth.tail.kind != "logits":
        logit = _HALF_LOGIT
    for seed in range(_TREMORS):
        moved = original.pictures(crops, np.random.default_rng(seed))
        unrest = compare(still, _answers(truth, original.rows(moved)))
        probability = max(probability, _MARGIN * unrest.probability_difference)
        logit = max(logit, _MARGIN * unrest.logit_difference)
    return Tolerance(
        probability=min(probability + truth.tail.step, _MOST_PROBABILITY),
        logit=None if truth.tail.step else min(logit, _MOST_LOGIT),
        distinct=strict.distinct,
    )


def prove(
    truth: Truth,
    exported: Exported,
    pictures: Mapping[str, bytes],
    report: Callable[[str], None] = lambda _: None,
) -> dict[str, Parity]:
    """Compare both sides on every picture by protocol, and batches with their members.

    Returns the agreement under the names of the protocols and ``batch``.
    """
    manifest = exported.manifest
    original = truth.original
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
            rows = original.rows(original.pictures(crops))
            expected.append((truth.probabilities(rows).mean(axis=0), truth.logits(rows)))
            probabilities, logits = exported.run(exported.crops(picture, protocol))
            answer = PROTOCOLS[protocol].answer([probabilities])
            measured.append((answer, truth.comparable(logits)))
        found[protocol] = compare(_stacked(expected), _stacked(measured), allowed)
    report("comparing a batch with its members")
    found["batch"] = _batch(truth, exported, list(pictures.values())[:_BATCH], allowed)
    return found


def _batch(truth: Truth, exported: Exported, pictures: list[bytes], allowed: Tolerance) -> Parity:
    crops = [exported.crops(picture, "center") for picture in pictures]
    alone = [exported.run(crop) for crop in crops]
    together = zip(*exported.run(np.concatenate(crops)), strict=True)
    return compare(
        _stacked([(p[0], truth.comparable(logits)) for p, logits in alone]),
        _stacked([(p, truth.comparable(logits[None])) for p, logits in together]),
        allowed,
    )


def _answers(truth: Truth, rows: Rows) -> Answers:
    return _stacked([(truth.probabilities(row[None])[0], truth.logits(row[None])) for row in rows])


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
    cut = v2.TenCrop(crop) if protocol == "ten_crop" else v2.CenterCrop(crop)
    images = cut(resized)
    crops = [np.asarray(one) for one in (images if isinstance(images, tuple) else [images])]
    return np.stack(crops).reshape(len(crops), *crop, input.channels)
