from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from export.data import digits
from export.proof.parity import Exported
from export.zoo import train_lenet5
from export.zoo.architectures.lenet5 import C3_CONNECTIONS, LeNet5, Squash, TableConv
from tests.pytorch.conftest import Command


def test_layers_have_the_shapes_of_the_paper() -> None:
    network = LeNet5()
    shapes: dict[str, tuple[int, ...]] = {}

    def note(layer: torch.nn.Module, _given: object, got: torch.Tensor) -> None:
        shapes.setdefault(names[layer], tuple(got.shape[1:]))

    names = {layer: name for name, layer in network.named_children()}
    for layer in names:
        layer.register_forward_hook(note)
    network(torch.zeros(1, 1, 32, 32))
    del shapes["squash"]
    assert shapes == {
        "c1": (6, 28, 28),
        "s2": (6, 14, 14),
        "c3": (16, 10, 10),
        "s4": (16, 5, 5),
        "c5": (120, 1, 1),
        "f6": (84,),
        "output": (10,),
    }


def test_layers_have_the_parameters_of_the_paper() -> None:
    counts = {
        name: sum(parameter.numel() for parameter in layer.parameters())
        for name, layer in LeNet5().named_children()
    }
    assert counts == {
        "c1": 156,
        "s2": 12,
        "c3": 1_516,
        "s4": 32,
        "c5": 48_120,
        "f6": 10_164,
        "output": 850,
        "squash": 0,
    }


def test_c3_sees_only_the_maps_of_table_1() -> None:
    layer = TableConv(6, C3_CONNECTIONS, 5)
    for seen in range(6):
        maps = torch.zeros(1, 6, 14, 14)
        maps[0, seen] = 1
        moved = (layer(maps) - layer(torch.zeros_like(maps))).abs().amax(dim=(0, 2, 3)) > 0
        assert [seen in table for table in C3_CONNECTIONS] == moved.tolist()


def test_c3_equals_a_convolution_with_its_dense_kernel() -> None:
    layer = TableConv(6, C3_CONNECTIONS, 5)
    kernel = layer.dense()
    assert int((kernel != 0).sum()) == 60 * 25
    # the third kernel belongs to the third connection: map 0 of C3 with map 2 of S2
    assert torch.equal(kernel[0, 2], layer.weight[2])


def test_the_squashing_function_passes_through_one() -> None:
    values = Squash()(torch.tensor([-1.0, 0.0, 1.0]))
    assert values.tolist() == pytest.approx([-1, 0, 1], abs=1e-4)


def test_the_split_is_stratified_and_disjoint() -> None:
    learn, held_out = digits.split()
    assert (len(learn.pictures), len(held_out.pictures)) == (1347, 450)
    shares = np.bincount(held_out.labels) / (
        np.bincount(held_out.labels) + np.bincount(learn.labels)
    )
    assert shares == pytest.approx(np.full(10, 0.25), abs=0.01)
    again, _ = digits.split()
    assert again.pictures == learn.pictures


def test_held_out_digits_through_the_service_and_onnx_runtime(lenet5: Exported) -> None:
    _, held_out = digits.split()
    answers = [lenet5.answer(picture, "center")[0] for picture in held_out.pictures]
    accuracy = float((np.argmax(answers, axis=1) == held_out.labels).mean())
    assert accuracy >= 0.98
    (ours,) = (error for error in lenet5.manifest.published if "digits" in error.dataset)
    assert ours.top1 == pytest.approx(100 * (1 - accuracy), abs=0.005)


def test_training_reports_its_accuracy_and_writes_weights(export: Command, tmp_path: Path) -> None:
    file = tmp_path / "new" / "weights.safetensors"
    outcome = export("train", "lenet5", "--epochs", 2, "--output", file)
    assert (outcome.code, outcome.err) == (0, "")
    assert "epoch 2/2: loss" in outcome.out
    assert "on 1347 digits trained on" in outcome.out
    assert "on 450 held out" in outcome.out
    LeNet5().load_state_dict(load_file(file))


def test_training_twice_gives_the_same_network() -> None:
    first, second = (train_lenet5.train(epochs=1).network.state_dict() for _ in range(2))
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_other_networks_are_not_trained_here(export: Command) -> None:
    outcome = export("train", "resnet50")
    assert outcome.code == 2
    assert "resnet50 is not trained here" in outcome.error
