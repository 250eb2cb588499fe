"""The proof of an adopted model must notice when the two sides differ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnxruntime.quantization import quantize_static

from export.adoption import foreign, graft, tail
from export.adoption.foreign import Foreign
from export.adoption.original import Original
from export.adoption.proof import crops_of, prove
from export.adoption.truth import Truth
from export.data.pictures import photographs
from export.errors import ProofFailed
from export.proof.parity import Exported, Parity
from service.manifest import Input
from tests.pytorch.adoption.test_adopt import Calibration, adopted
from tests.pytorch.conftest import Command, read_manifest
from tests.pytorch.foreign_files import Net, torchscript


def proof_after(file: Path, change: float) -> dict[str, Parity]:
    """The proof of the adopted ``file``, after ``change`` was added to the mean in its graph."""
    folder = file.parent / "models" / "it" / "1"
    manifest = read_manifest(folder)
    model = onnx.load(folder / "model.onnx")
    (shift,) = (t for t in model.graph.initializer if t.name == "adopted/constant_1")
    values = numpy_helper.to_array(shift)
    assert values.shape == (1, 3, 1, 1)
    shift.CopyFrom(numpy_helper.from_array(values + np.float32(change), shift.name))
    onnx.save(model, folder / "model.onnx")
    found = foreign.read(file, foreign.Wishes())
    original = Original(found, manifest.input)
    some = dict(list(photographs().items())[-6:])
    crops = [crops_of(p, manifest.input, manifest.resize, "center") for p in some.values()]
    end = tail.find(found, original, original.pictures(np.concatenate(crops)))
    truth = Truth(original, end, skip_first=False)
    return prove(truth, Exported(folder / "model.onnx", manifest), some)


def test_another_mean_is_noticed(export: Command, tmp_path: Path) -> None:
    file = torchscript(tmp_path / "net.onnx", Net())
    adopted(export, file)
    assert all(parity.passed for parity in proof_after(file, 0).values())
    parities = proof_after(file, 0.01)
    assert not parities["center"].passed
    assert parities["batch"].passed  # wrong together as well as alone


def test_another_mean_is_noticed_behind_rounding(
    export: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    single = torchscript(tmp_path / "single.onnx", Net(), opset=17)
    file = tmp_path / "int8.onnx"
    quantize_static(single, file, Calibration(), per_channel=True)
    adopted(export, file)
    assert all(parity.passed for parity in proof_after(file, 0).values())
    assert not proof_after(file, 0.01)["network"].passed
    whole = graft.normalisation

    def shifted(foreign: Foreign, taken: Input, mean: Any) -> onnx.ModelProto:
        return whole(foreign, taken, mean + 0.01)

    # numbers that the adopted graph feeds its network are compared with those of the file
    monkeypatch.setattr(graft, "normalisation", shifted)
    with pytest.raises(ProofFailed, match="pixels are normalised otherwise than for the file"):
        proof_after(file, 0)
