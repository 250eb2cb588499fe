"""Prove one built model: choose the pictures, compare, and record the result."""

from __future__ import annotations

import datetime
import importlib.metadata
import platform
from collections.abc import Callable, Mapping
from pathlib import Path

from torch import nn

from export import pictures
from export.errors import NotBuilt, ProofFailed
from export.parity import Exported, Parity, prove
from export.reference import PROTOCOLS, Reference
from export.registry import Spec
from service.manifest import Manifest, ProtocolName, Verification

WORK = 600_000_000_000
"""Multiply-adds that one side may spend on one protocol; 16 pictures of ten crops of ResNet-34."""
_FEWEST = {"center": 4, "ten_crop": 2}

_LIBRARIES = (
    "torch",
    "torchvision",
    "timm",
    "pytorchcv",
    "onnx",
    "onnxscript",
    "onnxruntime",
    "pillow",
)


def enough(spec: Spec, protocol: ProtocolName, work: int = WORK) -> int:
    """How many pictures prove ``spec`` under ``protocol`` for ``work`` multiply-adds a side.

    Large networks are proved on fewer: what a picture more could show is in the crops, which are
    cut the same for every network.
    """
    crops = {"center": 1, "ten_crop": 10}[protocol]
    return max(_FEWEST[protocol], work // (crops * spec.multiply_adds))


def run(
    spec: Spec,
    network: nn.Module,
    model: Path,
    manifest: Manifest,
    report: Callable[[str], None] = lambda _: None,
    work: int = WORK,
) -> dict[str, Parity]:
    """Compare ``network`` with the ONNX file ``model``; the agreement by protocol, and ``batch``.

    Protocols that torchvision has no transform for are the service's own tests' business.
    ``work`` bounds the multiply-adds of one protocol on one side.

    Raises NotBuilt when ONNX Runtime cannot open the file.
    """
    try:
        exported = Exported(model, manifest)
    except Exception as error:
        # ONNX Runtime's exceptions have no common base but Exception
        raise NotBuilt(f"{model} cannot be opened: {error}") from error
    samples = list(pictures.sample(spec.labels).items())
    chosen = {
        protocol: dict(samples[: enough(spec, protocol, work)])
        for protocol in manifest.protocols.names
        if protocol in PROTOCOLS
    }
    return prove(Reference(spec, network), exported, chosen, report)


def record(parities: Mapping[str, Parity]) -> Verification:
    """The manifest's record: the worst figure, the fewest pictures of a protocol, today's date."""
    every = list(parities.values())
    protocols = [parity for part, parity in parities.items() if part != "batch"]
    return Verification(
        passed=all(parity.passed for parity in every),
        date=datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        versions={
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in _LIBRARIES},
        },
        pictures=min(parity.pictures for parity in protocols),
        max_abs_probability_difference=max(parity.probability_difference for parity in every),
        max_logit_difference_in_std=max(parity.logit_difference for parity in every),
        top5_agreement=min(parity.top5_agreement for parity in every),
        distinct_top5=min(parity.distinct_top5 for parity in protocols),
    )


def demand(name: str, parities: Mapping[str, Parity]) -> None:
    """Raise ProofFailed, with every failure in its line, unless all comparisons hold."""
    failures = [
        f"{part}: {failure}" for part, parity in parities.items() for failure in parity.failures
    ]
    if failures:
        raise ProofFailed(f"the proof of {name} failed: {'; '.join(failures)}")
