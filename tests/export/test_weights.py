from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from export import registry, weights
from export.errors import WeightsMismatch
from models import REPOSITORY
from tests.export.conftest import Command, snapshot

State = dict[str, Tensor]


@pytest.fixture
def state() -> State:
    spec = registry.get("lenet5")
    return load_file(spec.weights.locate("lenet5"))


def _misshapen(state: State) -> None:
    state["f6.weight"] = torch.zeros(84, 121)


def _missing(state: State) -> None:
    del state["c3.weight"], state["output.bias"]


def _unexpected(state: State) -> None:
    state["f7.weight"] = torch.zeros(3)


def _everything(state: State) -> None:
    _misshapen(state)
    _missing(state)
    _unexpected(state)


WRONG: list[tuple[Callable[[State], None], list[str]]] = [
    (_misshapen, ["misshapen f6.weight [84, 121] instead of [84, 120]"]),
    (_missing, ["missing c3.weight, output.bias"]),
    (_unexpected, ["unexpected f7.weight"]),
    (_everything, ["missing c3.weight", "unexpected f7.weight", "misshapen f6.weight"]),
]


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize(("spoil", "words"), WRONG, ids=lambda case: getattr(case, "__name__", ""))
def test_weights_that_do_not_fit_are_refused_in_one_line(
    spoil: Callable[[State], None],
    words: list[str],
    suffix: str,
    state: State,
    export: Command,
    tmp_path: Path,
) -> None:
    spoil(state)
    file = tmp_path / f"weights{suffix}"
    (torch.save if suffix == ".pth" else save_file)(state, file)
    _refused(export, file, *words)


class Code:
    """What a hostile checkpoint does when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.mark,)


def test_a_pickle_with_code_is_refused_and_not_run(
    state: State, export: Command, tmp_path: Path
) -> None:
    file, mark = tmp_path / "weights.pth", tmp_path / "mark"
    torch.save({**state, "extra": Code(mark)}, file)
    _refused(export, file, "cannot be read as a state dict")
    old = tmp_path / "old.pth"
    old.write_bytes(pickle.dumps(Code(mark)))
    _refused(export, old, "cannot be read as a state dict")
    assert not mark.exists()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("data", [b"", b"not weights at all", b"PK\x03\x04" + bytes(100)])
def test_garbage_is_refused(data: bytes, suffix: str, export: Command, tmp_path: Path) -> None:
    file = tmp_path / f"weights{suffix}"
    file.write_bytes(data)
    _refused(export, file, "cannot be read as a state dict")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_half_a_file_is_refused(suffix: str, state: State, export: Command, tmp_path: Path) -> None:
    file = tmp_path / f"weights{suffix}"
    (torch.save if suffix == ".pth" else save_file)(state, file)
    file.write_bytes(file.read_bytes()[:100_000])
    _refused(export, file, "cannot be read as a state dict")


@pytest.mark.parametrize("content", [torch.zeros(3), {}, {"c1.weight": 1.0}, {1: torch.zeros(1)}])
def test_a_file_without_named_tensors_is_refused(
    content: object, export: Command, tmp_path: Path
) -> None:
    file = tmp_path / "weights.pth"
    torch.save(content, file)
    _refused(export, file, "holds")


def test_a_file_that_is_not_there(export: Command, tmp_path: Path) -> None:
    _refused(export, tmp_path / "weights.pth", "no such weights file")
    _refused(export, tmp_path, "no such weights file")


def _refused(export: Command, file: Path, *words: str) -> None:
    before = snapshot(REPOSITORY)
    outcome = export("build", "lenet5", "--weights", file, "--output", REPOSITORY, "--force")
    assert outcome.code == 2
    for word in words:
        assert word in outcome.error
    assert snapshot(REPOSITORY) == before


def test_resnet50_says_which_file_to_fetch(export: Command, tmp_path: Path) -> None:
    outcome = export("build", "resnet50", "--output", tmp_path)
    assert outcome.code == 2
    assert "https://download.pytorch.org/models/resnet50-0676ba61.pth" in outcome.error
    assert "--weights resnet50-0676ba61.pth" in outcome.error
    assert snapshot(tmp_path) == {}


def test_old_checkpoints_without_step_counters_fit(tmp_path: Path) -> None:
    spec = registry.get("resnet50")
    state = spec.build().state_dict()
    lean = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    torch.save(lean, tmp_path / "weights.pth")
    loaded = weights.load(spec, tmp_path / "weights.pth")
    assert torch.equal(loaded.network.state_dict()["fc.weight"], state["fc.weight"])
    assert (loaded.record.source, loaded.record.origin) == ("checkpoint", "weights.pth")


def test_a_wrapped_state_dict_is_unwrapped(state: State, tmp_path: Path) -> None:
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "weights.pth")
    assert weights.read(tmp_path / "weights.pth").keys() == state.keys()


def test_packaged_weights_are_known_again_when_named(tmp_path: Path) -> None:
    spec = registry.get("efficientnet_lite0")
    copy = tmp_path / "renamed.pth"
    copy.write_bytes(spec.weights.locate(spec.name).read_bytes())
    assert weights.load(spec, copy).record.source == "package"


def test_weights_of_a_sibling_do_not_fit_by_order() -> None:
    lite0, lite1, lite2 = (registry.get(f"efficientnet_lite{index}") for index in range(3))
    for spec, other, words in ((lite0, lite1, "tensors instead of"), (lite1, lite2, "misshapen")):
        state = weights.read(other.weights.locate(other.name))
        with pytest.raises(WeightsMismatch, match=words):
            weights.fit(spec.build(), state, "sibling.pth", same_order=True)


def test_tensors_in_another_order_are_refused() -> None:
    spec = registry.get("efficientnet_lite0")
    state = weights.read(spec.weights.locate(spec.name))
    keys = list(state)
    weight, bias = keys.index("_bn0.weight"), keys.index("_bn0.bias")
    keys[weight], keys[bias] = keys[bias], keys[weight]
    shuffled = {key: state[key] for key in keys}
    with pytest.raises(WeightsMismatch, match="stands where"):
        weights.fit(spec.build(), shuffled, "shuffled.pth", same_order=True)
