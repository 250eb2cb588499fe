from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from export.errors import WeightsMismatch
from export.spec import Spec
from export.weights import head
from export.zoo import registry, resolve

FAMILIES = {spec.family: spec.name for spec in registry.specs()}
"""A network of each family; the last one that is registered."""
OTHERS = ("torchvision:squeezenet1_1", "torchvision:vit_b_32", "timm:test_convnext")


@pytest.mark.parametrize("name", [*FAMILIES.values(), *OTHERS])
def test_the_last_layer_is_found_in_every_family(name: str) -> None:
    spec = replace(resolve.network(name), classes=37)
    layer = head.last_layer(spec, head.shapes(spec, 37))
    assert 1 <= len(layer) <= 2
    for key, shape in layer.items():
        assert shape[0] == 37
        assert key.rpartition(".")[2] in ("weight", "bias")


class Tiny(nn.Module):
    """Keys of a network with a trunk and a last layer."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.head = nn.Sequential(nn.Dropout(0.1), nn.Linear(4, classes))

    def forward(self, pictures: Tensor) -> Tensor:
        answer: Tensor = self.head(self.conv(pictures).mean(dim=(2, 3)))
        return answer


@pytest.fixture
def spec() -> Spec:
    return replace(registry.get("resnet18"), builder=Tiny, classes=10)


def fitted(spec: Spec, tensors: dict[str, Tensor]) -> tuple[Spec, dict[str, Tensor], list[str]]:
    """``spec`` for the classes of ``tensors``, as loading makes it."""
    shapes = head.shapes(spec, spec.classes)
    classes, state, remarks = head.fitted(tensors, shapes, head.last_layer(spec, shapes))
    return replace(spec, classes=classes or spec.classes), state, remarks


def state(classes: int = 37) -> dict[str, Tensor]:
    return dict(Tiny(classes).state_dict())


@pytest.mark.parametrize(
    "prefix", ["", "module.", "model.", "net.", "_orig_mod.", "module._orig_mod.model.", "x.y.z."]
)
def test_prefixes_go(prefix: str, spec: Spec) -> None:
    own = state()
    bare, remarks = head.without_prefix({f"{prefix}{k}": v for k, v in own.items()}, own.keys())
    assert bare.keys() == own.keys()
    assert remarks == []


def test_what_is_beside_the_network_is_left_out_and_said() -> None:
    own = state()
    given = {f"model.{k}": v for k, v in own.items()} | {"criterion.weight": torch.ones(3)}
    bare, remarks = head.without_prefix(given, own.keys())
    assert bare.keys() == own.keys()
    assert remarks == ["1 tensors beside those behind model. were left out: criterion.weight"]


def test_a_network_that_is_there_twice_asks_which() -> None:
    own = state()
    given = {
        f"{p}.{k}": v + n for n, p in enumerate(("teacher", "student")) for k, v in own.items()
    }
    with pytest.raises(WeightsMismatch, match=r"2 times, behind student\. and teacher\.: --prefix"):
        head.without_prefix(given, own.keys())
    bare, _ = head.without_prefix(given, own.keys(), "student")
    assert torch.equal(bare["conv.bias"], own["conv.bias"] + 1)
    with pytest.raises(WeightsMismatch, match="no key of the network is behind 'pupil"):
        head.without_prefix(given, own.keys(), "pupil")


def test_the_classes_follow_from_the_last_layer(spec: Spec) -> None:
    found, given, remarks = fitted(spec, state(37))
    assert (found.classes, given.keys(), remarks) == (37, state().keys(), [])


@pytest.mark.parametrize("own", ["head", "head.0", "head.3", "head.fc"])
def test_a_last_layer_that_was_replaced_is_found(own: str, spec: Spec) -> None:
    given = {key.replace("head.1.", f"{own}."): value for key, value in state(5).items()}
    found, renamed, remarks = fitted(spec, given)
    assert (found.classes, renamed.keys()) == (5, state().keys())
    assert f"the last layer is {own} in the file" in remarks[0]


def test_two_layers_in_the_place_of_the_last_are_not_taken_for_one(spec: Spec) -> None:
    given = {key.replace("head.1.", "head.3."): value for key, value in state(5).items()}
    given |= {"head.0.weight": torch.ones(4, 4), "head.0.bias": torch.ones(4)}
    found, same, remarks = fitted(spec, given)
    assert (found.classes, same.keys(), remarks) == (10, given.keys(), [])


def test_a_last_layer_of_two_minds_is_refused(spec: Spec) -> None:
    with pytest.raises(WeightsMismatch, match="4 and 5 classes"):
        fitted(spec, state(5) | {"head.1.bias": torch.ones(4)})
