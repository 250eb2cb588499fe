"""Prove an adopted model: compare it with the file as it came, from the encoded picture on.

One side is the foreign ONNX file in ONNX Runtime, fed through its own input with pictures that
torchvision cut and numpy normalised. The other is the adopted model behind the service's own
decoding and cropping.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from export.adoption import graft
from export.adoption.original import TREMOR, Pixels
from export.adoption.runtime import session
from export.adoption.truth import Truth, narrow, stacked, tolerance
from export.data import transforms
from export.errors import ProofFailed
from export.proof.parity import Exported, Parity, Tolerance, compare
from service.imaging.protocols import PROTOCOLS
from service.manifest import Input, ProtocolName, Resize

_HALF_ULP = 2.0**-10
_BATCH = 8


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
    for protocol in transforms.PROTOCOLS:  # others cut crops for the same graph
        proven = protocol in manifest.protocols.names
        if not proven and protocol != "center":
            continue
        theirs = [crops_of(p, manifest.input, manifest.resize, protocol) for p in pictures.values()]
        ours = [exported.crops(picture, protocol) for picture in pictures.values()]
        allowed = tolerance(truth, theirs)  # what rounding does depends on the crops
        if protocol == "center":
            centres, of_centres = ours, allowed
        if proven:
            report(f"comparing {len(pictures)} pictures, protocol {protocol}")
            found[protocol] = _protocol(truth, exported, protocol, theirs, ours, allowed)
    if truth.rounds:
        report("comparing the network alone")
        found["network"] = _network(truth, exported, centres, of_centres)
    report("comparing a batch with its members")
    found["batch"] = _batch(truth, exported, centres[:_BATCH], of_centres)
    return found


def _protocol(
    truth: Truth,
    exported: Exported,
    protocol: ProtocolName,
    theirs: list[Pixels],
    ours: list[Pixels],
    allowed: Tolerance,
) -> Parity:
    """Compare the answers to the crops of each picture, cut by the library and by the service."""
    expected, measured = [], []
    for crops, own in zip(theirs, ours, strict=True):
        said, because = truth.answers(crops)
        expected.append((said.mean(axis=0), because))
        probabilities, logits = exported.run(own)
        answer = PROTOCOLS[protocol].answer([probabilities])
        measured.append((answer, truth.comparable(logits)))
    return compare(stacked(expected), stacked(measured), allowed)


def _network(
    truth: Truth, exported: Exported, centres: Sequence[Pixels], allowed: Tolerance
) -> Parity:
    """Compare the adopted graph with the file fed what the adopted graph's own head makes.

    The tolerance is strict, except for halves, which get ``allowed``, the tolerance from the
    picture on: on a CPU ONNX Runtime computes them in single precision and drops the casts between
    our nodes and the file's, so it does not round what the file rounds.
    """
    original = truth.original
    head = session(graft.normalisation(original.foreign, original.input, original.mean))
    expected, measured = [], []
    for crops in centres:
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
    said_to_all = stacked(expected)
    strict = allowed if truth.halves else narrow(truth, said_to_all)
    return compare(said_to_all, stacked(measured), strict)


def _batch(truth: Truth, exported: Exported, crops: Sequence[Pixels], allowed: Tolerance) -> Parity:
    alone = [exported.run(crop) for crop in crops]
    together = zip(*exported.run(np.concatenate(crops)), strict=True)
    return compare(
        stacked([(p[0], truth.comparable(logits)) for p, logits in alone]),
        stacked([(p, truth.comparable(logits[None])) for p, logits in together]),
        allowed,
    )


def crops_of(
    picture: bytes,
    input: Input,  # noqa: A002
    resize: Resize,
    protocol: ProtocolName,
) -> Pixels:
    """Cut crops uint8 [N, H, W, C], RGB or gray, from an encoded picture as torchvision does.

    Raises ValueError for a protocol that torchvision has no transform for.
    """
    cut = transforms.cutting(input, resize, protocol)
    crops = np.stack([np.asarray(crop) for crop in cut(transforms.opened(picture))])
    return crops.reshape(len(crops), input.height, input.width, input.channels)
