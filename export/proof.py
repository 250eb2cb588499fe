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
from export.reference import Reference
from export.registry import Spec
from service.manifest import Manifest, Verification

_LIBRARIES = ("torch", "torchvision", "timm", "onnx", "onnxscript", "onnxruntime", "pillow")


def sample(spec: Spec) -> dict[str, bytes]:
    """The pictures to prove ``spec`` with: photographs, random ones, digits where they belong."""
    digits = pictures.digit_pictures() if spec.labels == "digits" else {}
    return {**digits, **pictures.photographs(), **pictures.random_pictures()}


def run(
    spec: Spec,
    network: nn.Module,
    model: Path,
    manifest: Manifest,
    report: Callable[[str], None] = lambda _: None,
) -> dict[str, Parity]:
    """Compare ``network`` with the ONNX file ``model``; the agreement by protocol, and ``batch``.

    Raises NotBuilt when ONNX Runtime cannot open the file.
    """
    try:
        exported = Exported(model, manifest)
    except Exception as error:
        # ONNX Runtime's exceptions have no common base but Exception
        raise NotBuilt(f"{model} cannot be opened: {error}") from error
    return prove(Reference(spec, network), exported, sample(spec), report)


def record(parities: Mapping[str, Parity]) -> Verification:
    """The manifest's record: the worst figure over the protocols, and today's date."""
    every = list(parities.values())
    return Verification(
        passed=all(parity.passed for parity in every),
        date=datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        versions={
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in _LIBRARIES},
        },
        pictures=max(parity.pictures for parity in every),
        max_abs_probability_difference=max(parity.probability_difference for parity in every),
        max_logit_difference_in_std=max(parity.logit_difference for parity in every),
        top5_agreement=min(parity.top5_agreement for parity in every),
        distinct_top5=min(
            parity.distinct_top5 for part, parity in parities.items() if part != "batch"
        ),
    )


def demand(name: str, parities: Mapping[str, Parity]) -> None:
    """Raise ProofFailed, with every failure in its line, unless all comparisons hold."""
    failures = [
        f"{part}: {failure}" for part, parity in parities.items() for failure in parity.failures
    ]
    if failures:
        raise ProofFailed(f"the proof of {name} failed: {'; '.join(failures)}")
