"""What tests of untrained networks need: a seeded initialisation, and the shapes of layers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor, nn

from export.spec import Spec
from export.zoo import registry

Shape = tuple[int, ...]


@contextmanager
def uninitialised() -> Iterator[None]:
    """What is built within has any weights: to draw them takes most of a network's making."""
    with pytest.MonkeyPatch.context() as patch:
        for name in dir(nn.init):
            if name.endswith("_") and not name.startswith("_"):
                patch.setattr(nn.init, name, lambda tensor, *_, **__: tensor)
        yield


@contextmanager
def known(spec: Spec) -> Iterator[None]:
    """Commands and builds within know a network of this name, too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry._SPECS, spec.name, spec)
        yield


def initialise(network: nn.Module, seed: int = 0, level: float = 60) -> nn.Module:
    """Seeded weights and biases under which answers differ clearly between pictures.

    Convolutions keep the scale of their input (He et al. 2015); biases are random and, but for
    the last layer's, lean to the negative, so that the ReLUs are sparse. ``level`` is the
    magnitude of the network's input, which the first layer brings down to 1.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in network.modules():
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                deviation = (2 / layer.weight[0].numel()) ** 0.5
                layer.weight.normal_(0, deviation / level, generator=generator)
                level = 1
                assert layer.bias is not None
                layer.bias.normal_(-0.2, 0.2, generator=generator)
    return network.eval()


def shapes(network: nn.Module, pictures: Tensor, names: list[str]) -> dict[str, Shape]:
    """The shapes [...], without the batch, that the named layers yield for ``pictures``."""
    found: dict[str, Shape] = {}

    def note(name: str) -> None:
        def hook(_layer: nn.Module, _given: object, got: Tensor) -> None:
            found[name] = tuple(got.shape[1:])

        network.get_submodule(name).register_forward_hook(hook)

    for name in names:
        note(name)
    with torch.inference_mode():
        network(pictures)
    return found


def parameters(network: nn.Module) -> int:
    """How many trainable numbers a network has."""
    return sum(parameter.numel() for parameter in network.parameters())
