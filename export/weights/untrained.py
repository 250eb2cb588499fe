"""Untrained weights under which a network still tells pictures apart.

A plain initialisation lets deep networks explode, collapse, or give every picture nearly the
same answer, and leaves batch statistics at 0 and 1, so that a proof with it would miss swapped
ones. Here each layer is drawn at random, then calibrated on real crops in the order of the
forward pass, so that its outputs have unit scale (LSUV, Mishkin and Matas 2015,
https://arxiv.org/abs/1511.06422), and the calibrated values are disturbed again.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

from export.data import pictures, transforms
from export.spec import Licence, Spec
from service.manifest import Weights

_MAX_CROPS, _MIN_CROPS = 16, 8
"""Crops to calibrate on. By three alone, EfficientNet-L2 answered a fourth picture with chaos."""
_MAX_PIXELS = 2_000_000
"""Pixels of all of them, where `_MIN_CROPS` shrunk to `_SHRUNK` leave the choice."""
_SHRUNK = 0.8
"""The least side of a crop to calibrate on, as a share of the network's: statistics change with
the size, and by crops of less than half L2 tells pictures apart no more."""
_TINY = 1e-6
_BIAS = 0.3
"""Deviation of random biases, in units of the layer's output."""

_BRANCH = 0.25
"""Gain of the last layer of a residual branch. At 1, differences of rounding grow from block to
block: a thousandth of the answers' deviation after the 152 layers of a ResNet."""

_LIFT = 1.0
"""Mean of the biases of batch normalisations in a network without residual branches. At 0 half of
what enters a ReLU is lost, which sets pictures further apart at every layer, and differences of
rounding with them: Inception-v4 then failed its proof."""

_TEXT = """\
The weights are random: drawn by this project's seeded initialisation (seed {seed}), trained on
nothing. The answers mean nothing. The network's own code is under the licence of its library.
"""


def initialise(spec: Spec, network: nn.Module, seed: int) -> None:
    """Give every tensor of ``network`` a random value, calibrated on the proof's pictures.

    The same seed gives the same weights, up to the rounding of the machine.
    """
    generator = torch.Generator().manual_seed(seed)
    _draw(network, generator)
    crops = _crops(spec)
    network.eval()
    ends = branch_ends(network, crops[:1])
    if not ends:
        _lift(network)
    hooks = []
    for layer in network.modules():
        gain = _BRANCH if layer in ends else 1.0
        if isinstance(layer, _BatchNorm):
            hooks.append(layer.register_forward_pre_hook(_Normalise(generator, gain)))
        elif isinstance(layer, (nn.Conv2d, nn.Linear)):
            hooks.append(layer.register_forward_hook(_Rescale(generator, gain)))
    with _hooked(hooks), torch.no_grad():
        network(crops)


def record(spec: Spec, seed: int) -> Weights:
    """The manifest's record; there is no file, so the digest is that of the recipe's words."""
    recipe = f"random weights, seed {seed}"
    digest = hashlib.sha256(f"{recipe}: {spec.network}".encode()).hexdigest()
    return Weights(source="random", origin=recipe, sha256=digest, licence="Apache-2.0")


def seed_of(weights: Weights) -> int:
    """The seed that ``record`` wrote down."""
    return int(weights.origin.rsplit(" ", 1)[-1])


def licence(seed: int) -> Licence:
    """What the model's folder says about its weights."""
    return Licence("Apache-2.0", (("LICENSE", _TEXT.format(seed=seed)),))


def branch_ends(network: nn.Module, crops: Tensor) -> set[nn.Module]:
    """The layers whose output, scaled or not, is added to what another path carries."""
    hooks = [
        layer.register_forward_hook(_mark)
        for layer in network.modules()
        if isinstance(layer, (_BatchNorm, nn.Conv2d, nn.Linear))
    ]
    additions = _Additions()
    with _hooked(hooks), torch.no_grad(), additions:
        network(crops)
    return additions.ends


def _mark(layer: nn.Module, _inputs: object, output: Tensor) -> None:
    output.made_by = layer  # type: ignore[attr-defined]


class _Additions(TorchFunctionMode):
    """Collects the layers whose marked outputs are added; a scaled output keeps its mark."""

    def __init__(self) -> None:
        super().__init__()
        self.ends: set[nn.Module] = set()

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        name = getattr(func, "__name__", "").strip("_")
        tensors = [value for value in args if isinstance(value, Tensor) and value.dim() > 1]
        makers = [value.made_by for value in tensors if hasattr(value, "made_by")]
        result = func(*args, **(kwargs or {}))
        if name in ("add", "iadd", "radd") and len(tensors) == 2:
            if len(makers) == 1:  # where both paths end in a layer, damping both damps neither
                self.ends.update(makers)
            if hasattr(result, "made_by"):
                del result.made_by  # added in place: no longer the layer's own output
        elif name in ("mul", "imul", "rmul") and makers:
            result.made_by = makers[0]
        return result


@contextlib.contextmanager
def _hooked(hooks: Iterable[RemovableHandle]) -> Iterator[None]:
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _draw(network: nn.Module, generator: torch.Generator) -> None:
    for layer in network.modules():
        for name, parameter in layer.named_parameters(recurse=False):
            if parameter.dim() > 1:
                fan_in = parameter[0].numel()
                nn.init.normal_(parameter, 0, (2 / fan_in) ** 0.5, generator=generator)
            elif name.endswith("bias"):
                nn.init.normal_(parameter, 0, _BIAS, generator=generator)
            else:  # gains, and whatever else has one value per channel
                nn.init.uniform_(parameter, 0.5, 1.5, generator=generator)


def _lift(network: nn.Module) -> None:
    for layer in network.modules():
        if isinstance(layer, _BatchNorm) and layer.affine:
            with torch.no_grad():
                layer.bias.add_(_LIFT)


def _crops(spec: Spec) -> Tensor:
    samples = pictures.sample(spec.labels)
    height, width = spec.input.height, spec.input.width
    budget = _MAX_PIXELS / (height * width)
    count = max(_MIN_CROPS, min(_MAX_CROPS, int(budget / _SHRUNK**2)))
    shrink = max(_SHRUNK, min(1.0, (budget / count) ** 0.5))
    size = (int(height * shrink), int(width * shrink))
    crops = (transforms.crops(spec, data, "center") for data in _spread(samples, count))
    if shrink == 1:
        return torch.cat(list(crops))
    return torch.cat(
        [functional.interpolate(crop, size, mode="bilinear", antialias=True) for crop in crops]
    )


def _spread(samples: dict[str, bytes], count: int) -> Iterable[bytes]:
    """``count`` of the pictures, from all over the list."""
    every = list(samples.values())
    step = max(1, len(every) // count)
    return every[::step][:count]


class _Normalise:
    """Before a batch normalisation: statistics of its input, disturbed."""

    def __init__(self, generator: torch.Generator, gain: float) -> None:
        self.generator = generator
        self.gain = gain
        self.seen: set[int] = set()

    def __call__(self, layer: _BatchNorm, inputs: tuple[Tensor, ...]) -> None:
        if id(layer) in self.seen or layer.running_mean is None or layer.running_var is None:
            return
        self.seen.add(id(layer))
        axes = [axis for axis in range(inputs[0].dim()) if axis != 1]
        variance, mean = torch.var_mean(inputs[0].float(), axes, correction=0)
        # a channel that is the same everywhere is left small instead of blown up
        floor = variance.mean() * 1e-2 + _TINY
        variance = torch.maximum(variance, floor)
        shift = torch.empty_like(mean).normal_(0, 0.2, generator=self.generator)
        stretch = torch.empty_like(mean).uniform_(0.7, 1.4, generator=self.generator)
        layer.running_mean.copy_(mean + shift * variance.sqrt())
        layer.running_var.copy_(variance * stretch)
        if layer.affine:
            layer.weight.mul_(self.gain)
            layer.bias.mul_(self.gain)


class _Rescale:
    """After a convolution or a matrix: unit deviation, and centred where there is a bias."""

    def __init__(self, generator: torch.Generator, gain: float) -> None:
        self.generator = generator
        self.gain = gain
        self.seen: set[int] = set()

    def __call__(
        self, layer: nn.Conv2d | nn.Linear, inputs: tuple[Tensor, ...], output: Tensor
    ) -> Tensor | None:
        if id(layer) in self.seen:
            return None
        self.seen.add(id(layer))
        channel = 1 if isinstance(layer, nn.Conv2d) else output.dim() - 1
        axes = [axis for axis in range(output.dim()) if axis != channel]
        shape = [-1 if axis == channel else 1 for axis in range(output.dim())]
        mean = output.mean(axes)
        centred = output - mean.reshape(shape) if layer.bias is not None else output
        scale = self.gain / centred.std().clamp_min(_TINY)
        layer.weight.mul_(scale)
        if layer.bias is None:
            return output * scale
        # the bias takes most of the mean away, which is the same for every picture
        noise = torch.empty_like(mean).normal_(0, _BIAS * self.gain, generator=self.generator)
        before = layer.bias.clone()
        layer.bias.copy_(noise + (before - mean) * scale)
        return centred * scale + noise.reshape(shape)
