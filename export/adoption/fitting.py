"""Choose how a foreign graph is wrapped: by opset and batch, as tests by running it show."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from onnx import ModelProto

from export.adoption import batch, graft, opset
from export.adoption.foreign import opset_of
from export.adoption.original import Pixels
from export.adoption.runtime import RuntimeRefusal, first_line, session
from export.adoption.truth import Truth, tolerance
from export.errors import ForeignModelRefused
from export.proof.parity import Tolerance

_BATCHES = (1, 2, 5)


@dataclass(frozen=True)
class Complaint:
    """What is wrong with one way to wrap the graph."""

    pictures: int
    """Pictures in the batch whose answers were wrong; 0 where the graph did not open."""
    words: str


@dataclass(frozen=True)
class Fitted:
    """The adopted graph, and in words what was done to the foreign one."""

    model: ModelProto
    opset: str
    batch: str


def fit(truth: Truth, crops: Pixels, report: Callable[[str], None] = lambda _: None) -> Fitted:
    """Wrap the foreign graph so that batches of 1, 2 and 5 crops get the file's own answers.

    ``crops`` are uint8 [5, H, W, C]. Opset 20 is preferred to the file's, one run for the whole
    batch to a loop over it. Raises ForeignModelRefused when nothing computes what the file does.
    """
    judge = _Judge(truth, crops)
    why = ""
    complaints: list[Complaint] = []
    for network, opset_words in _opsets(truth):
        for model, batch_words in _batches(truth, network, crops):
            report(f"trying opset {opset_of(model)}, batch {batch_words}")
            found = judge.complaint(model)
            if found is None:
                return Fitted(model, opset_words + why, batch_words)
            complaints.append(found)
        why = f" (converted to {opset.OPSET}, {telling(complaints).words})"
    raise ForeignModelRefused(
        f"none of {len(complaints)} ways to wrap it computes what it did: "
        f"{telling(complaints).words}"
    )


def telling(complaints: Sequence[Complaint]) -> Complaint:
    """Return the complaint that says most about the file: the first about a single picture.

    Where all single pictures were right, return the first one.
    """
    return min(complaints, key=lambda complaint: complaint.pictures > 1)


def _opsets(truth: Truth) -> Iterator[tuple[ModelProto, str]]:
    """Yield the foreign graph in opset 20, and as it came, each with its name for people."""
    foreign = truth.original.foreign
    why = ""
    if foreign.opset < opset.OPSET:
        try:
            yield opset.converted(foreign.model), f"{foreign.opset} converted to {opset.OPSET}"
        except ValueError as error:
            why = f" (onnx cannot convert it: {error})"
    yield foreign.model, f"{foreign.opset} kept{why}"


def _batches(truth: Truth, network: ModelProto, crops: Pixels) -> Iterator[tuple[ModelProto, str]]:
    """Yield the wrapped graph with its batch as it came, loosened, and in a loop."""
    foreign = truth.original.foreign
    insists = foreign.signature.batch

    def assembled(graph: ModelProto, *, one_by_one: bool = False) -> ModelProto:
        return graft.assemble(
            foreign,
            graph,
            truth.tail,
            truth.original.input,
            truth.original.mean,
            classes=truth.original.classes,
            skip_first=truth.skip_first,
            one_by_one=one_by_one,
        )

    if insists is None:
        yield assembled(network), "any, as in the file"
    pictures = truth.original.pictures(np.repeat(crops[:1], insists or 1, axis=0))
    try:
        loose = batch.loosened(foreign, network, pictures)
        yield assembled(loose), f"any: the file's {insists or 1} was taken out of its shapes"
    except RuntimeRefusal:
        pass  # the loop may still do
    yield (
        assembled(network, one_by_one=True),
        "any, one picture after the other: the file cannot take several at once. Exported with a "
        "dynamic batch (dynamic_axes or dynamic_shapes of torch.onnx.export) it would compute "
        "them together, which is faster",
    )


class _Judge:
    """The file's own answers to some crops, and whether a model gives the same."""

    def __init__(self, truth: Truth, crops: Pixels) -> None:
        self.truth = truth
        self.crops = crops
        self.probabilities, _ = truth.answers(crops)
        self.allowed: Tolerance = replace(
            tolerance(truth, [crop[None] for crop in crops]), distinct=False
        )

    def complaint(self, model: ModelProto) -> Complaint | None:
        """Say what is wrong with answers of ``model`` to batches of 1, 2 and 5; None if nothing."""
        count = 0
        try:
            opened = session(model)
            for count in _BATCHES:
                (answer,) = opened.run(["probabilities"], {"pixels": self.crops[:count]})
                expected = self.probabilities[:count]
                if answer.shape != expected.shape:
                    return Complaint(count, f"a batch of {count} yields {list(answer.shape)}")
                difference = float(np.abs(answer - expected).max())
                if not difference <= self.allowed.probability:
                    return Complaint(
                        count,
                        f"a batch of {count} is off by {difference:.2g} in a probability, allowed "
                        f"are {self.allowed.probability:.2g}",
                    )
        except Exception as error:  # noqa: BLE001  # ONNX Runtime's have no common base
            return Complaint(count, f"ONNX Runtime refuses it: {first_line(error)}")
        return None
