"""Commands run in this process, folders compared byte for byte, and the committed models."""

from __future__ import annotations

import copy
import hashlib
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import pytest
from torch import nn

from export.__main__ import main
from export.graph import graph
from export.proof.parity import Exported
from models import REPOSITORY
from service.manifest import FILE_NAME, Manifest
from tests.unit.conftest import learning as learning


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one line on stderr; fails when there is more, or a traceback."""
        assert self.err.startswith("error: "), self.err
        assert self.err.count("\n") == 1, self.err
        return self.err.removeprefix("error: ").rstrip("\n")


Command = Callable[..., Outcome]


@pytest.fixture
def export(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Command]:
    """Run ``python -m export ARGUMENTS`` in this process: the same main(), without its start."""

    def run(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["python -m export", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main()
        out, err = capfd.readouterr()
        return Outcome(int(stopped.value.code or 0), out, err)

    before = signal.getsignal(signal.SIGTERM)
    yield run
    signal.signal(signal.SIGTERM, before)


def snapshot(folder: Path) -> dict[str, str]:
    """Every path below ``folder`` with the digest of its bytes, or "folder"."""
    return {
        str(path.relative_to(folder)): (
            "folder" if path.is_dir() else hashlib.sha256(path.read_bytes()).hexdigest()
        )
        for path in sorted(folder.rglob("*"))
    }


def read_manifest(folder: Path) -> Manifest:
    return Manifest.model_validate_json((folder / FILE_NAME).read_text(encoding="utf-8"))


def open_model(folder: Path) -> Exported:
    manifest = read_manifest(folder)
    return Exported(folder / manifest.file("model").path, manifest)


@pytest.fixture(scope="session")
def _traces() -> dict[str, onnx.ModelProto]:
    return {}


@pytest.fixture
def traced_once(_traces: dict[str, onnx.ModelProto], monkeypatch: pytest.MonkeyPatch) -> None:
    """A network with the same numbers is not traced again, which takes seconds each time.

    That tracing twice gives the same bytes has a test of its own.
    """
    trace = graph.to_onnx

    def once(network: nn.Module, *given: object, **more: Any) -> onnx.ModelProto:
        assert more.get("mean_image") is None  # its numbers would have to count as well
        digest = hashlib.sha256(repr((network, given, more)).encode())
        for key, tensor in network.state_dict().items():
            digest.update(repr((key, tensor.dtype, tensor.shape)).encode())
            digest.update(tensor.numpy().tobytes())
        name = digest.hexdigest()
        if name not in _traces:
            _traces[name] = trace(network, *given, **more)  # type: ignore[arg-type]
        return copy.deepcopy(_traces[name])

    monkeypatch.setattr(graph, "to_onnx", once)


@pytest.fixture(scope="session")
def lite0() -> Exported:
    return open_model(REPOSITORY / "efficientnet_lite0" / "1")


@pytest.fixture(scope="session")
def lenet5() -> Exported:
    return open_model(REPOSITORY / "lenet5" / "1")
