"""Facts that are measured on a network: parameters, multiply-adds, the shape of its answer."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from export.errors import ExportError
from export.spec import Spec
from export.zoo.counting import multiply_adds


def measured(spec: Spec) -> Spec:
    """``spec`` with the parameters and multiply-adds of the network that it builds.

    Nothing is computed where the network can be built on PyTorch's ``meta`` device. Raises
    ExportError where the network cannot be built, or its answer is not one number a class.
    """
    try:
        with torch.device("meta"):
            network = spec.build().eval()
            answer = _answer(spec, network)
        counted: int | None = multiply_adds(spec)
    except Exception:  # noqa: BLE001  what a network does with tensors without numbers is its own
        network, answer = _really(spec)
        counted = None
    if not isinstance(answer, Tensor) or answer.shape != (1, spec.classes):
        said = f"{list(answer.shape)}" if isinstance(answer, Tensor) else type(answer).__name__
        raise ExportError(
            f"{spec.reference} is no classifier: for one crop it answers {said} instead of "
            f"[1, {spec.classes}]"
        )
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return replace(spec, parameters=parameters, multiply_adds=counted or None)


def _really(spec: Spec) -> tuple[nn.Module, object]:
    """The network with numbers, and what it says."""
    try:
        network = spec.build().eval()
        return network, _answer(spec, network)
    except Exception as error:
        size = f"{spec.input.height}x{spec.input.width}"
        words = " ".join(str(error).split())[:200]
        raise ExportError(f"{spec.reference} takes no crops of {size}: {words}") from error


def _answer(spec: Spec, network: nn.Module) -> object:
    """What the network says to one crop of zeros."""
    size = spec.input
    with torch.inference_mode():
        answer: object = network(torch.zeros(1, size.channels, size.height, size.width))
    return answer
