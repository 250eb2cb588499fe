"""Prove one built model: choose the pictures, compare, and record the result."""

from __future__ import annotations

import datetime
import importlib.metadata
import platform
from collections.abc import Callable, Mapping
from pathlib import Path

from torch import nn

from export import dense_proof, mean_image, pictures
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

    The file with the role ``dense``, if there is one, lies beside ``model`` and is compared too.
    Raises NotBuilt when ONNX Runtime cannot open the file.
    """
    samples = sample(spec)
    exported = _open(model, manifest)
    mean = None
    if manifest.input.mean_image is not None:
        mean = mean_image.read(model.with_name(manifest.input.mean_image), spec)
        spec = mean_image.with_mean(spec, mean)
    found = prove(Reference(spec, network, mean), exported, samples, report)
    for file in manifest.files:
        if file.role == "dense":
            crops = {name: exported.crops(picture, "center") for name, picture in samples.items()}
            del exported  # two copies of the weights are enough
            dense = _open(model.with_name(file.path), manifest)
            found |= dense_proof.prove(spec, network, dense, samples, crops, report)
            break
    return found


def _open(model: Path, manifest: Manifest) -> Exported:
    try:
        return Exported(model, manifest)
    except Exception as error:
        # ONNX Runtime's exceptions have no common base but Exception
        raise NotBuilt(f"{model} cannot be opened: {error}") from error


def record(parities: Mapping[str, Parity]) -> Verification:
    """The manifest's record: the worst figure over the protocols, and today's date."""
    every = list(parities.values())
    most = max(parity.pictures for parity in every)
    return Verification(
        passed=all(parity.passed for parity in every),
        date=datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        versions={
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in _LIBRARIES},
        },
        pictures=most,
        max_abs_probability_difference=max(parity.probability_difference for parity in every),
        max_logit_difference_in_std=max(parity.logit_difference for parity in every),
        top5_agreement=min(parity.top5_agreement for parity in every),
        # of the parts that saw all the pictures: not of batches and odd sizes
        distinct_top5=min(parity.distinct_top5 for parity in every if parity.pictures == most),
    )


def demand(name: str, parities: Mapping[str, Parity]) -> None:
    """Raise ProofFailed, with every failure in its line, unless all comparisons hold."""
    failures = [
        f"{part}: {failure}" for part, parity in parities.items() for failure in parity.failures
    ]
    if failures:
        raise ProofFailed(f"the proof of {name} failed: {'; '.join(failures)}")
