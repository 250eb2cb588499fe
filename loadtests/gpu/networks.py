"""Build the models of the benchmark by the export command, into a folder of its own."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from service.manifest import FILE_NAME, Manifest

Precision = Literal["fp32", "fp16"]
WEIGHTS = {"efficientnet_lite0": None, "resnet50": "random"}
"""The networks, and where their weights come from: None is the network's own source."""
EMBEDDED = Path(__file__).resolve().parents[2] / "models"
"""Here lies what needs no export."""


@dataclass(frozen=True)
class Built:
    """A model in a repository, or the reason why it is not there."""

    model: str
    precision: Precision
    repository: Path
    file: Path | None = None
    exact: Path | None = None
    """The fp32 file beside it, which was proved."""
    manifest: Manifest | None = None
    reason: str = ""


def build(model: str, precision: Precision, folder: Path) -> Built:
    """Build one model with this precision under ``folder``; never raises for a failed build.

    What is embedded in single precision is taken as it is.
    """
    if precision == "fp32" and (EMBEDDED / model).is_dir():
        return _built(Built(model, precision, EMBEDDED))
    repository = folder / precision
    repository.mkdir(parents=True, exist_ok=True)
    made = Built(model, precision, repository)
    arguments = ["build", model, "--output", str(repository), "--force"]
    if weights := WEIGHTS[model]:
        arguments += ["--weights", weights]
    if precision == "fp16":
        arguments += ["--precision", precision]
    done = _export(*arguments)
    if done.returncode:
        lines = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()
        return _without(made, f"the export failed: {lines[-1]}")
    return _built(made)


def _built(made: Built) -> Built:
    version = made.repository / made.model / "1"
    manifest = Manifest.model_validate_json((version / FILE_NAME).read_text(encoding="utf-8"))
    try:
        file = manifest.file("model", made.precision)
    except KeyError:
        return _without(made, f"the export wrote no {made.precision} file")
    exact = version / manifest.file("model", "fp32").path
    return replace(made, file=version / file.path, exact=exact, manifest=manifest)


def _without(made: Built, reason: str) -> Built:
    return Built(made.model, made.precision, made.repository, reason=reason)


def _export(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "export", *arguments]
    return subprocess.run(  # noqa: S603
        command, capture_output=True, text=True, check=False, env=None
    )
