"""One network of ``verify --all``, in a process of its own: ``verify_one NAME MODELS SCRATCH``."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

from export.errors import ExportError, WeightsUnavailable
from export.proof.parity import Parity
from export.spec import Spec
from export.versions import built
from export.versions.build import make
from export.versions.verify import verify
from export.versions.verify_all import Row
from export.weights import files
from export.weights.downloads import LibraryDownload
from export.zoo import registry

WORK = 60_000_000_000
"""Multiply-adds of one protocol on one side: a tenth of what a build spends."""


def main(name: str, models: Path, scratch: Path) -> None:
    """Write ``row.json`` into ``scratch``."""
    spec = registry.get(name)
    if built.versions(models, name):
        manifest = built.read_manifest(models, name, None)
        parities = verify(name, models=models, work=WORK)
        _write(spec, manifest.weights.source, parities, scratch)
        return
    made = make(spec, files.load(spec, _weights(spec)), scratch, work=WORK)
    _write(spec, made.manifest.weights.source, made.parities, scratch)


def _weights(spec: Spec) -> Path | None:
    """None for the spec's own weights where they are on this machine, else random ones."""
    if isinstance(spec.weights, LibraryDownload):
        return None if spec.weights.cached().is_file() else files.RANDOM
    try:
        spec.weights.locate(spec.name)
    except WeightsUnavailable:
        return files.RANDOM
    return None


def _write(spec: Spec, source: str, parities: dict[str, Parity], scratch: Path) -> None:
    row = row_of(spec, source, parities)
    (scratch / "row.json").write_text(json.dumps(asdict(row)), encoding="utf-8")


def row_of(spec: Spec, source: str, parities: dict[str, Parity]) -> Row:
    """The row of a network that was compared; ``source``: where its weights come from."""
    every = list(parities.values())
    failures = [
        f"{part}: {failure}" for part, parity in parities.items() for failure in parity.failures
    ]
    return Row(
        name=spec.name,
        network=spec.network,
        weights=source,
        parameters=spec.parameters,
        pictures=parities["center"].pictures,
        ten_crop_pictures=parities["ten_crop"].pictures if "ten_crop" in parities else 0,
        max_probability_difference=max(parity.probability_difference for parity in every),
        max_logit_difference_in_std=max(parity.logit_difference for parity in every),
        top5_agreement=min(parity.top5_agreement for parity in every),
        distinct_top5=parities["center"].distinct_top5,
        spread=min(parity.spread for part, parity in parities.items() if part != "batch"),
        passed=not failures,
        failure="; ".join(failures),
    )


if __name__ == "__main__":
    try:
        main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
    except ExportError as error:
        sys.exit(f"error: {error}")
