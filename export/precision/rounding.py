"""Round weights so that the layer's output changes least, not each weight.

One column of a layer's weights is rounded after the other. The columns that follow make up for each
error as far as the layer's inputs allow (GPTQ, Frantar et al. 2022,
https://arxiv.org/abs/2210.17323); what remains on average goes into the bias (Nagel et al. 2019,
section 4.2, https://arxiv.org/abs/1906.04721).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch
from onnx import helper
from torch import Tensor
from torch.nn import functional

from export.precision.calibrate import activations
from export.precision.crops import Crops
from export.precision.layers import Float, Layer, Network
from export.precision.qdq import RoundedLayer

T = TypeVar("T")

MAX_COLUMNS = 5000
"""Most weights of one output channel; larger layers are rounded to the nearest, for memory."""
_POSITIONS = 16_000
"""Positions of a layer's input that are looked at, over all crops."""
_DAMPING = 0.01
"""Added to the diagonal, as a share of its mean (Frantar et al., section 3.3)."""
_SHRINKAGE = np.linspace(0.6, 1, 21)
"""Steps to try, as shares of the one that covers the largest weight."""


def round_weights(
    network: Network, crops: Crops, report: Callable[[str], None] = lambda _: None
) -> dict[str, RoundedLayer]:
    """Return integer weights and biases by layer, rounded on ``crops`` uint8 [N, H, W, C]."""
    return _round(network, crops, report, _integers)


def round_to_bfloat16(
    network: Network, crops: Crops, report: Callable[[str], None] = lambda _: None
) -> dict[str, tuple[Float, Float]]:
    """Return weights with bfloat16's values, and biases, by layer, as float32."""
    return _round(network, crops, report, _bfloat16)


def _round(
    network: Network,
    crops: Crops,
    report: Callable[[str], None],
    solve: Callable[[Network, Layer, _Moments], T],
) -> dict[str, T]:
    layers = [
        layer
        for layer in network.layers
        if layer.weight is not None and network.weight(layer)[0].size <= MAX_COLUMNS
    ]
    report(f"measuring what {len(layers)} layers are given, on {len(crops)} crops")
    moments = {layer.name: _Moments(network, layer) for layer in layers}
    share = max(1, _POSITIONS // len(crops))
    names = list(dict.fromkeys(layer.inputs[0] for layer in layers))
    for values in activations(network.model, names, crops):
        for layer in layers:
            moments[layer.name].add(torch.from_numpy(values[layer.inputs[0]]), share)
    rounded = {}
    for number, layer in enumerate(layers, start=1):
        report(f"rounding layer {number} of {len(layers)}")
        rounded[layer.name] = solve(network, layer, moments.pop(layer.name))
    return rounded


class _Moments:
    """The mean and the covariance of a layer's input patches: G groups, K numbers each."""

    def __init__(self, network: Network, layer: Layer) -> None:
        self._cut = _Patches(network, layer)
        self._generator = torch.Generator().manual_seed(0)
        self._positions = 0
        self._sum: Tensor | None = None

    def add(self, inputs: Tensor, share: int) -> None:
        """Add ``share`` random positions of every picture of an input [N, C, H, W] or [N, C]."""
        rows = self._cut(inputs, share, self._generator)
        products = rows.transpose(1, 2) @ rows
        self._sum = products if self._sum is None else self._sum + products
        self._positions += rows.shape[1]

    @property
    def mean(self) -> Tensor:
        """Return the mean, [G, K]."""
        assert self._sum is not None  # noqa: S101
        return self._sum[:, :-1, -1].double() / self._positions

    @property
    def covariance(self) -> Tensor:
        """Return the covariance, [G, K, K]."""
        assert self._sum is not None  # noqa: S101
        mean = self.mean
        return (
            self._sum[:, :-1, :-1].double() / self._positions - mean[:, :, None] * mean[:, None, :]
        )


class _Patches:
    """Cuts from a layer's input the patches that positions of its output are computed from."""

    def __init__(self, network: Network, layer: Layer) -> None:
        node = network.node(layer.name)
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        self.groups = int(attributes.get("group", 1))
        self.kernel = network.weight(layer).shape[2:]
        self.strides = attributes.get("strides", [1, 1])
        self.dilations = attributes.get("dilations", [1, 1])
        top, left, bottom, right = attributes.get("pads", [0] * 4)
        self.pads = [left, right, top, bottom]

    def __call__(self, inputs: Tensor, count: int, generator: torch.Generator) -> Tensor:
        """Cut patches at ``count`` random positions of each input [N, C, H, W] or [N, C].

        Returns [groups, positions, K + 1], the last number being 1. Each is written in place at
        once: this is most of the rounding's time.
        """
        if not self.kernel:
            return functional.pad(inputs, (0, 1), value=1)[None]
        padded = functional.pad(inputs, self.pads)
        positions = []
        for axis in (0, 1):
            reach = self.dilations[axis] * (self.kernel[axis] - 1)
            outputs = (padded.shape[2 + axis] - reach - 1) // self.strides[axis] + 1
            first = torch.randint(outputs, (count,), generator=generator) * self.strides[axis]
            steps = torch.arange(self.kernel[axis]) * self.dilations[axis]
            positions.append(first[:, None] + steps)
        rows, columns = positions
        pictures, channels = padded.shape[:2]
        flat = (rows[:, :, None] * padded.shape[3] + columns[:, None, :]).reshape(-1)
        windows = padded.flatten(2).gather(2, flat.expand(pictures, channels, -1))
        windows = windows.reshape(pictures, self.groups, channels // self.groups, count, -1)
        windows = windows.permute(1, 0, 3, 2, 4)
        found = inputs.new_ones(*windows.shape[:3], windows.shape[3] * windows.shape[4] + 1)
        found[..., :-1].view(windows.shape).copy_(windows)
        return found.flatten(1, 2)


def _integers(network: Network, layer: Layer, moments: _Moments) -> RoundedLayer:
    original, damped = _weight(network, layer, moments)
    step = _steps(original, damped.diagonal(dim1=1, dim2=2))
    scale = step[:, :, 0]
    values = _gptq(original, damped, lambda value: (value / scale).round().clamp(-127, 127) * scale)
    whole = (values / step).round().reshape(network.weight(layer).shape)
    bias = _bias(network, layer, (original - values) @ moments.mean[:, :, None])
    return RoundedLayer(whole.to(torch.int8).numpy(), step.reshape(-1).float().numpy(), bias)


def _bfloat16(network: Network, layer: Layer, moments: _Moments) -> tuple[Float, Float]:
    original, damped = _weight(network, layer, moments)
    values = _gptq(original, damped, lambda value: value.float().bfloat16().double())
    bias = _bias(network, layer, (original - values) @ moments.mean[:, :, None])
    weight: Float = values.reshape(network.weight(layer).shape).float().numpy()
    return weight.T if network.transposed(layer) else weight, bias


def _weight(network: Network, layer: Layer, moments: _Moments) -> tuple[Tensor, Tensor]:
    """Return the weights [G, O, K] and the damped covariance [G, K, K] of their inputs."""
    damped = moments.covariance
    groups, columns = damped.shape[:2]
    original = network.weight(layer).reshape(groups, -1, columns).astype(np.float64)
    diagonal = damped.diagonal(dim1=1, dim2=2)
    diagonal += _DAMPING * diagonal.mean(dim=1, keepdim=True) + 1e-12
    return torch.from_numpy(original), damped


def _bias(network: Network, layer: Layer, error: Tensor) -> Float:
    """Return the layer's bias plus the mean of what the rounding took from its output."""
    bias: Float = error.reshape(-1).float().numpy()
    return bias if layer.bias is None else bias + network.constants[layer.bias]


def _steps(weight: Tensor, importance: Tensor) -> Tensor:
    """Return the step [G, O, 1] of each output channel that rounds [G, O, K] best."""
    largest = weight.abs().amax(dim=2, keepdim=True).clamp_min(1e-10) / 127
    least = torch.full_like(largest, torch.inf)
    chosen = largest
    for share in _SHRINKAGE:
        step = largest * share
        error = (weight / step).round().clamp(-127, 127) * step - weight
        loss = (error.square() * importance[:, None, :]).sum(dim=2, keepdim=True)
        chosen = torch.where(loss < least, step, chosen)
        least = torch.minimum(loss, least)
    return chosen


def _gptq(weight: Tensor, damped: Tensor, nearest: Callable[[Tensor], Tensor]) -> Tensor:
    """Return values of a grid [G, O, K] that act on the inputs as ``weight`` does.

    ``nearest`` rounds a column [G, O] to the grid.
    """
    order = damped.diagonal(dim1=1, dim2=2).mean(dim=0).argsort(descending=True)
    back = order.argsort()
    rest = weight[:, :, order].clone()
    inverse = torch.linalg.inv(damped[:, order][:, :, order])
    factor = torch.linalg.cholesky((inverse + inverse.transpose(1, 2)) / 2, upper=True)
    values = torch.zeros_like(rest)
    block = 128
    for start in range(0, rest.shape[2], block):
        stop = min(start + block, rest.shape[2])
        errors = torch.zeros_like(rest[:, :, start:stop])
        for column in range(start, stop):
            value = rest[:, :, column]
            values[:, :, column] = nearest(value)
            error = (value - values[:, :, column]) / factor[:, column, column][:, None]
            rest[:, :, column:stop] -= error[:, :, None] * factor[:, None, column, column:stop]
            errors[:, :, column - start] = error
        rest[:, :, stop:] -= errors @ factor[:, start:stop, stop:]
    return values[:, :, back]
