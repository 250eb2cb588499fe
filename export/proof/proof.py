"""Prove one built model: choose the pictures, compare, and record the result."""

from __future__ import annotations

import datetime
import importlib.metadata
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from torch import nn

from export.data import mean_image, pictures
from export.data.transforms import PROTOCOLS
from export.errors import NotBuilt, ProofFailed
from export.proof import dense_proof
from export.proof.parity import STRICT, Exported, Parity, of_classes, prove
from export.proof.reference import Reference
from export.spec import Spec
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


def enough(spec: Spec, protocol: ProtocolName, work: int | None = None) -> int:
    """How many pictures prove ``spec`` under ``protocol`` for ``work`` multiply-adds a side,
    or ``WORK``.

    Large networks are proved on fewer: what a picture more could show is in the crops, which are
    cut the same for every network.
    """
    crops = {"center": 1, "ten_crop": 10}[protocol]
    if spec.multiply_adds is None:
        return _FEWEST[protocol]
    return max(_FEWEST[protocol], (WORK if work is None else work) // (crops * spec.multiply_adds))


def run(
    spec: Spec,
    network: nn.Module,
    model: Path,
    manifest: Manifest,
    report: Callable[[str], None] = lambda _: None,
    work: int | None = None,
    sample: Mapping[str, bytes] | None = None,
) -> dict[str, Parity]:
    """Compare ``network`` with the ONNX file ``model``; the agreement by protocol, and ``batch``.

    ``sample`` are the pictures, encoded, by name; None: photographs of packages and random ones.

    Protocols that torchvision has no transform for are the service's own tests' business.
    ``work`` bounds the multiply-adds of one protocol on one side, else ``WORK``. The file with
    the role ``dense``, if there is one, lies beside ``model`` and is compared too.

    Raises NotBuilt when ONNX Runtime cannot open the file.
    """
    exported = _open(model, manifest)
    mean = None
    if manifest.input.mean_image is not None:
        mean = mean_image.read(model.with_name(manifest.input.mean_image), spec)
        spec = mean_image.with_mean(spec, mean)
    samples = list((sample or pictures.sample(spec.labels)).items())
    chosen = {
        protocol: dict(samples[: enough(spec, protocol, work)])
        for protocol in manifest.protocols.names
        if protocol in PROTOCOLS
    }
    tolerance = of_classes(spec.classes) if spec.own_labels else STRICT
    found = prove(Reference(spec, network, mean), exported, chosen, report, tolerance)
    for file in manifest.files:
        if file.role == "dense":
            wholes = chosen["center"]
            crops = [exported.crops(picture, "center") for picture in wholes.values()]
            del exported  # two copies of the weights are enough
            dense = _open(model.with_name(file.path), manifest)
            found |= dense_proof.prove(
                spec, network, dense, list(wholes.values()), crops, report, tolerance
            )
            break
    return found


def _open(model: Path, manifest: Manifest) -> Exported:
    try:
        return Exported(model, manifest)
    except Exception as error:
        # ONNX Runtime's exceptions have no common base but Exception
        raise NotBuilt(f"{model} cannot be opened: {error}") from error


def record(parities: Mapping[str, Parity], remarks: Sequence[str] = ()) -> Verification:
    """The manifest's record: the worst figure, the fewest pictures of a protocol, today's date.

    ``remarks`` go before those of the comparisons.
    """
    every = list(parities.values())
    # the parts that saw whole sets of pictures: not batches, not the odd sizes of dense graphs
    protocols = [parity for part, parity in parities.items() if part in PROTOCOLS]
    return Verification(
        passed=all(parity.passed for parity in every),
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        versions={
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in _LIBRARIES},
        },
        pictures=min(parity.pictures for parity in protocols),
        max_abs_probability_difference=max(parity.probability_difference for parity in every),
        max_logit_difference_in_std=max(parity.logit_difference for parity in every),
        top5_agreement=min(parity.top5_agreement for parity in every),
        distinct_top5=min(parity.distinct_top5 for parity in protocols),
        remarks=(*remarks, *_remarks(parities)),
    )


def _remarks(parities: Mapping[str, Parity]) -> Iterator[str]:
    for part, parity in parities.items():
        for remark in parity.remarks if part in PROTOCOLS else ():  # the others saw the same
            yield f"{part}: {remark}"


def demand(name: str, parities: Mapping[str, Parity], *, own_pictures: bool = True) -> None:
    """Raise ProofFailed, with every failure in its line, unless all comparisons hold.

    Without ``own_pictures`` it says that pictures of the network's own domain may help, where the
    answers to others are all alike.
    """
    failures = [
        f"{part}: {failure}" for part, parity in parities.items() for failure in parity.failures
    ]
    if failures:
        words = f"the proof of {name} failed: {'; '.join(failures)}"
        alike = [p.distinct_top5 < p.pictures and not p.remarks for p in parities.values()]
        if not own_pictures and any(alike) and "proves nothing" in words:
            words += "; --pictures FOLDER proves it on pictures of the network's own domain"
        raise ProofFailed(words)
