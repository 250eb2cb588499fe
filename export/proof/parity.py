"""The proof that an ONNX file computes what its network computes, from the picture on.

One side is PyTorch behind torchvision's transforms (export/data/transforms.py), the other is ONNX
Runtime behind the service's own decoding and cropping. A proof that constant answers would pass
proves nothing; so the answers must also differ clearly between the pictures.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from export.proof.reference import Reference, at_once
from service.imaging.decode import decode
from service.imaging.protocols import PROTOCOLS
from service.manifest import Manifest, ProtocolName

Array = npt.NDArray[np.float32]
Wide = npt.NDArray[np.float64]

MAX_PROBABILITY_DIFFERENCE = 1e-4
MAX_LOGIT_DIFFERENCE = 1e-3
"""In standard deviations, over the classes, of the picture's own logits."""
MIN_SPREAD = 0.05
"""Least spread of the logits between pictures, as a share of their spread over the classes.

Fifty times the tolerance: below it, an answer to another picture could pass for this one's.
Trained networks have 0.5 to 1.
"""
MIN_DISTINCT = 0.25
"""Least number of different top-five sets, as a share of the pictures; never below two."""
_BATCH = 8


@dataclass(frozen=True)
class Tolerance:
    """How far two sides may be apart. The defaults are for one network in single precision."""

    probability: float = MAX_PROBABILITY_DIFFERENCE
    logit: float = MAX_LOGIT_DIFFERENCE
    """In standard deviations."""
    distinct: bool = True
    """Whether the pictures must have several top fives; not so for a handful of classes."""
    clear: float = math.inf
    """Spread of the logits from which too few top fives are a remark, not a failure: the pictures
    are told apart by their logits then."""


STRICT = Tolerance()
_FEW_CLASSES = 10
_CLEAR = 0.2
"""Spread of the logits between pictures (see `spread`) from which they differ clearly: two hundred
times the tolerance. Trained networks have 0.5 to 1."""


def of_classes(classes: int) -> Tolerance:
    """What is allowed for a user's own classes: pictures of another domain may be one class."""
    return Tolerance(distinct=classes >= _FEW_CLASSES, clear=_CLEAR)


@dataclass(frozen=True)
class Answers:
    """What one side said to P pictures under one protocol.

    ``probabilities`` is [P, classes], the protocol's answer; ``logits`` is [P, crops, classes].
    """

    probabilities: Array
    logits: Array


@dataclass(frozen=True)
class Parity:
    """How far two sides agree, and whether their agreement says anything."""

    pictures: int
    probability_difference: float
    """max |dp| over pictures and classes."""
    logit_difference: float
    """max |dlogit| over crops and classes, in standard deviations of that crop's logits."""
    top5_agreement: float
    """Share of pictures with the same top five, but for ties below the tolerance."""
    distinct_top5: int
    spread: float
    """Spread of the logits between pictures / spread over the classes."""
    classes: int
    tolerance: Tolerance = STRICT

    @property
    def failures(self) -> list[str]:
        """What is wrong, in words; empty when the proof holds."""
        # written so that NaN fails
        found = []
        allowed = self.tolerance
        if not self.probability_difference <= allowed.probability:
            found.append(
                f"probabilities differ by {self.probability_difference:.3g}, "
                f"allowed are {allowed.probability:g}"
            )
        if not self.logit_difference <= allowed.logit:
            found.append(
                f"logits differ by {self.logit_difference:.3g} standard deviations, "
                f"allowed are {allowed.logit:g}"
            )
        if self.top5_agreement != 1:
            found.append(f"only {self.top5_agreement:.1%} of the pictures have the same top five")
        if not self.spread >= MIN_SPREAD:
            found.append(
                f"the answers hardly differ between pictures (spread {self.spread:.3g}, "
                f"needed are {MIN_SPREAD:g}): the comparison proves nothing"
            )
        if self._alike and not self.spread >= allowed.clear:
            found.append(f"{self._alike}: the comparison proves nothing")
        return found

    @property
    def remarks(self) -> list[str]:
        """What a reader of the proof should know, in words, though it holds."""
        if not self._alike or not self.spread >= self.tolerance.clear:
            return []
        return [
            f"{self._alike}; their logits differ clearly (spread {self.spread:.2f}), so the "
            "comparison tells them apart"
        ]

    @property
    def _alike(self) -> str:
        """That the pictures have too few different top fives, in words; empty if they have not."""
        possible = math.comb(self.classes, depth(self.classes))
        needed = max(2, min(math.ceil(MIN_DISTINCT * self.pictures), possible // 2))
        if not self.tolerance.distinct or self.distinct_top5 >= needed:
            return ""
        return (
            f"{self.pictures} pictures have only {self.distinct_top5} different top fives, "
            f"needed are {needed}"
        )

    @property
    def passed(self) -> bool:
        """Whether the proof holds."""
        return not self.failures


def compare(reference: Answers, measured: Answers, tolerance: Tolerance = STRICT) -> Parity:
    """Compare two sides' answers to the same pictures; the first is taken for the truth.

    Raises ValueError when the shapes differ or there are fewer than two pictures.
    """
    for ours, theirs in (
        (reference.probabilities, measured.probabilities),
        (reference.logits, measured.logits),
    ):
        if ours.shape != theirs.shape:
            raise ValueError(f"answers of shapes {ours.shape} and {theirs.shape}")
    if len(reference.probabilities) < 2:
        raise ValueError("one picture proves nothing")
    with np.errstate(invalid="ignore"):  # NaN and infinity are let through, and fail
        return _compare(reference, measured, tolerance)


def _compare(reference: Answers, measured: Answers, tolerance: Tolerance) -> Parity:
    pictures, classes = reference.probabilities.shape
    same = [
        same_top(expected, got, depth(classes), tolerance)
        for expected, got in zip(reference.probabilities, measured.probabilities, strict=True)
    ]
    sets = {frozenset(top(row, depth(classes))) for row in reference.probabilities}
    return Parity(
        pictures=pictures,
        probability_difference=_worst(reference.probabilities, measured.probabilities),
        logit_difference=_worst_logit(reference.logits, measured.logits),
        top5_agreement=sum(same) / pictures,
        distinct_top5=len(sets),
        spread=spread(reference.logits),
        classes=classes,
        tolerance=tolerance,
    )


def depth(classes: int) -> int:
    """How many classes "top five" means: five; one where five would be (nearly) all classes."""
    return 5 if classes >= 10 else 1


def top(probabilities: npt.NDArray[np.floating], count: int) -> list[int]:
    """The indices of the ``count`` largest of [classes], best first; ties by index."""
    return [int(index) for index in np.argsort(-probabilities, kind="stable")[:count]]


def same_top(expected: Array, got: Array, count: int, allowed: Tolerance = STRICT) -> bool:
    """Whether two answers [classes] have the same top set, but for ties below the tolerance.

    A class may be in one set alone only where, by ``expected``, it lies within the tolerance of
    the place where the sets are cut. Distances are taken between logarithms, which are logits up
    to a constant, so that the tolerance means the same for flat and for sharp answers.
    """
    scores = np.log(np.maximum(expected.astype(np.float64), np.finfo(np.float32).tiny))
    tolerance = allowed.logit * scores.std()
    ours = top(expected, count)
    cut = scores[ours[-1]]
    odd = set(ours) ^ set(top(got, count))
    return all(abs(scores[index] - cut) <= tolerance for index in odd)


def spread(logits: Array) -> float:
    """How much logits [P, crops, classes] differ between pictures, over how much between classes.

    The mean over the classes of the standard deviation over the pictures, divided by the mean
    over the pictures of the standard deviation over the classes; of each picture's first crop,
    freed of its mean, which softmax ignores. 0 where all answers are flat.
    """
    rows: Wide = logits[:, 0].astype(np.float64)
    rows = rows - rows.mean(axis=1, keepdims=True)
    over_classes = rows.std(axis=1).mean()
    return float(rows.std(axis=0).mean() / over_classes) if over_classes > 0 else 0.0


def _worst(expected: Array, got: Array) -> float:
    return float(np.abs(expected.astype(np.float64) - got).max())


def _worst_logit(expected: Array, got: Array) -> float:
    wide: Wide = expected.astype(np.float64)
    scale = wide.std(axis=-1, keepdims=True)
    difference = np.abs(wide - got)
    # flat logits have no scale: any difference at all is too much
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.where(difference == 0, 0.0, difference / scale).max())


class Exported:
    """An exported model: ONNX Runtime on the CPU behind the service's decoding and cropping."""

    def __init__(self, model: Path, manifest: Manifest) -> None:
        self.manifest = manifest
        self.session = ort.InferenceSession(str(model), providers=["CPUExecutionProvider"])

    def run(self, crops: npt.NDArray[np.uint8]) -> tuple[Array, Array]:
        """(probabilities, logits) float32 [N, classes] of crops uint8 [N, H, W, C]."""
        step = at_once(self.manifest.input)
        parts = [
            self.session.run(["probabilities", "logits"], {"pixels": crops[start : start + step]})
            for start in range(0, len(crops), step)
        ]
        probabilities, logits = (np.concatenate(side) for side in zip(*parts, strict=True))
        return probabilities, logits

    def crops(self, picture: bytes, protocol: ProtocolName) -> npt.NDArray[np.uint8]:
        """The one group of crops that the service cuts from an encoded picture."""
        (crops,) = PROTOCOLS[protocol].crops(decode(picture), self.manifest)
        return crops

    def answer(self, picture: bytes, protocol: ProtocolName) -> tuple[Array, Array]:
        """(probabilities [classes], logits [crops, classes]) of one encoded picture."""
        probabilities, logits = self.run(self.crops(picture, protocol))
        return PROTOCOLS[protocol].answer([probabilities]), logits


def prove(
    reference: Reference,
    exported: Exported,
    pictures: Mapping[ProtocolName, Mapping[str, bytes]],
    report: Callable[[str], None] = lambda _: None,
    tolerance: Tolerance = STRICT,
) -> dict[str, Parity]:
    """Compare both sides under every protocol of ``pictures``, on its pictures; and batches.

    Returns the agreement by protocol, and under ``batch`` how far a batch of several pictures
    agrees with the same pictures one by one. ``report`` gets a line per part.
    """
    found: dict[str, Parity] = {}
    for protocol, samples in pictures.items():
        report(f"comparing {len(samples)} pictures, protocol {protocol}")
        expected = [reference.logits(picture, protocol) for picture in samples.values()]
        truth = np.stack([PROTOCOLS[protocol].answer([_softmax(rows)]) for rows in expected])
        answers = [exported.answer(picture, protocol) for picture in samples.values()]
        probabilities, logits = (np.stack(side) for side in zip(*answers, strict=True))
        found[protocol] = compare(
            Answers(truth, np.stack(expected)), Answers(probabilities, logits), tolerance
        )
    report("comparing a batch with its members")
    found["batch"] = _batch(exported, list(pictures["center"].values())[:_BATCH], tolerance)
    return found


def _softmax(logits: Array) -> Array:
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    softmax: Array = (powers / powers.sum(axis=-1, keepdims=True)).astype(np.float32)
    return softmax


def _batch(exported: Exported, pictures: list[bytes], tolerance: Tolerance) -> Parity:
    together = at_once(exported.manifest.input)
    crops = [exported.crops(picture, "center") for picture in pictures[:together]]
    single = [exported.run(crop) for crop in crops]
    alone = Answers(
        np.concatenate([probabilities for probabilities, _ in single]),
        np.stack([logits for _, logits in single]),
    )
    probabilities, logits = exported.run(np.concatenate(crops))
    return compare(alone, Answers(probabilities, logits[:, None]), tolerance)
