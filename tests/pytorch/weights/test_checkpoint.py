from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from export.errors import UnreadableWeights
from export.weights import checkpoint

STATE = {"fc.weight": torch.ones(2, 3), "fc.bias": torch.zeros(2)}


def read(content: object, folder: Path, *, averaged: bool = True) -> checkpoint.Checkpoint:
    file = folder / "weights.ckpt"
    torch.save(content, file)
    return checkpoint.read(file, averaged=averaged)


@pytest.mark.parametrize(
    "content",
    [
        STATE,
        {"state_dict": STATE, "epoch": 3},
        {"model": STATE, "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}}},
        {"model_state_dict": STATE, "loss": np.float64(0.3), "best": np.float32(1)},
        {"epoch": np.int64(3), "net": {"state_dict": STATE}},
    ],
    ids=["bare", "lightning", "model", "numpy", "twice"],
)
def test_the_state_dict_is_found(content: object, tmp_path: Path) -> None:
    found = read(content, tmp_path)
    assert found.tensors.keys() == STATE.keys()
    assert found.remarks == ()


def test_a_moving_average_is_taken_unless_it_is_not_wanted(tmp_path: Path) -> None:
    average = {key: value + 1 for key, value in STATE.items()}
    content = {"state_dict": STATE, "state_dict_ema": average}
    found = read(content, tmp_path)
    assert torch.equal(found.tensors["fc.weight"], average["fc.weight"])
    assert found.remarks == (
        "the weights are the moving average under state_dict_ema; the weights under state_dict "
        "were not taken",
    )
    plain = read(content, tmp_path, averaged=False)
    assert torch.equal(plain.tensors["fc.weight"], STATE["fc.weight"])
    assert "was not taken" in plain.remarks[0]


def test_the_arguments_of_timms_training_are_read(tmp_path: Path) -> None:
    arguments = argparse.Namespace(model="resnet18", img_size=160, mean=[0.5, 0.5, 0.5])
    found = read({"state_dict": STATE, "args": arguments}, tmp_path)
    assert found.arguments["img_size"] == 160
    other = read({"state_dict": STATE, "args": argparse.Namespace(lr=0.1)}, tmp_path)
    assert other.arguments == {}


@pytest.mark.parametrize(
    "beside",
    [
        {"classes": ["cat", "dog"]},
        {"class_to_idx": {"dog": 1, "cat": 0}},
        {"idx_to_class": {1: "dog", 0: "cat"}},
        {"hyper_parameters": {"class_names": ["cat", "dog"], "lr": 0.1}},
        {"meta": {"classes": ("cat", "dog")}},
    ],
    ids=lambda beside: next(iter(beside)),
)
def test_names_of_classes_beside_the_weights(beside: dict[str, object], tmp_path: Path) -> None:
    assert read({"state_dict": STATE, **beside}, tmp_path).classes == ("cat", "dog")


@pytest.mark.parametrize("names", [["cat", 1], {"cat": 0, "dog": 2}, "cat", {"cat": "dog"}, []])
def test_what_names_no_classes_is_passed_over(names: object, tmp_path: Path) -> None:
    assert read({"state_dict": STATE, "classes": names}, tmp_path).classes == ()


class Own(nn.Module):
    """What torch.save(model, …) needs to be read."""

    def forward(self, pictures: Tensor) -> Tensor:
        return pictures


def test_a_checkpoint_that_needs_a_class_is_refused_with_how_to_save_it_anew(
    tmp_path: Path,
) -> None:
    for content in (Own(), {"model": Own()}):
        with pytest.raises(UnreadableWeights, match=r"save.*model\.state_dict\(\)"):
            read(content, tmp_path)


class Touch:
    """Makes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.mark,)


def test_what_is_let_through_runs_no_code(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    for argument in (Touch(mark), argparse.Namespace(model="resnet18", evil=Touch(mark))):
        with pytest.raises(UnreadableWeights):
            read({"state_dict": STATE, "args": argument}, tmp_path)
    with pytest.raises(UnreadableWeights):
        read({"state_dict": STATE, "best": np.array([Touch(mark)], dtype=object)}, tmp_path)
    assert not mark.exists()


def test_a_file_that_holds_itself_ends(tmp_path: Path) -> None:
    endless: dict[str, object] = {}
    endless["model"] = endless
    with pytest.raises(UnreadableWeights):
        read(endless, tmp_path)


def test_a_tensor_larger_than_what_is_stored_of_it_is_refused(tmp_path: Path) -> None:
    vast = torch.zeros(1).expand(2**36, 8)
    with pytest.raises(UnreadableWeights, match="larger than what is stored"):
        read({"fc.weight": vast}, tmp_path)
