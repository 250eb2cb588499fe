"""Checkpoints of the same network from another library: other names, the same numbers.

Which tensor is which is found by running both networks: layers pair up in the order in which they
are defined, or else in which they are called. A pairing counts only when both networks then give
the same answers, so that a layer in the wrong place is refused, never loaded.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from export.errors import WeightsMismatch
from export.spec import Builder, Spec

_COUNTER = "num_batches_tracked"
_TOLERANCE = 1e-3
"""Of the deviation of the answers: less than any misplaced layer, or another activation."""
_TENSORS = ("weight", "bias", "running_mean", "running_var")

Pairing = Callable[[nn.Module, Tensor], list[str]]


def understood(
    spec: Spec,
    network: nn.Module,
    given: dict[str, Tensor],
    trained_as: str | None = None,
    *,
    trusted: bool = False,
) -> dict[str, Tensor]:
    """``given`` under the keys of ``network``, when they are those of one of the spec's peers.

    Otherwise ``given`` itself. Raises WeightsMismatch when a peer with those keys computes
    something else; and, unless the file is ``trusted`` or ``trained_as`` names the peer, when
    another network of the peer's library, which computes something else, has those keys as well.
    """
    lean = {key: value for key, value in given.items() if not key.endswith(_COUNTER)}
    if lean.keys() & network.state_dict().keys() == lean.keys():
        return given
    for name in spec.peers:
        with torch.device("meta"):
            shapes = _tensors(create(name, spec.classes))
        if {key: value.shape for key, value in shapes.items()} == {
            key: value.shape for key, value in lean.items()
        }:
            if not trusted:
                _certain(spec, name, trained_as)
            peer = create(name, spec.classes).eval()
            peer.load_state_dict(lean, strict=False)  # all but the counters
            return _translated(spec, network, peer, name)
    return given


def _certain(spec: Spec, peer: str, trained_as: str | None) -> None:
    """Raise WeightsMismatch where the keys may be a twin's and nobody said that they are not."""
    doubles = twins(peer, spec.classes)
    if trained_as in doubles:
        raise WeightsMismatch(
            f"weights of {trained_as} are not for {spec.name}, which computes something else with "
            f"them: build {trained_as}, or adopt its ONNX file"
        )
    if doubles and trained_as is None:
        raise WeightsMismatch(
            f"the weights have the names of {peer} and of {' and '.join(doubles)}, which computes "
            f"something else with them: if they are the first's, say --trained-as {peer}"
        )


def twins(peer: str, classes: int) -> list[str]:
    """The networks of a library that have the keys and shapes of ``peer``, but other arithmetic.

    timm's ``tf_…`` pad as TensorFlow does and normalise with another epsilon; pytorchcv's names
    with and without ``b`` differ in where a bottleneck has its stride.
    """
    library, _, name = peer.partition(":")
    if library == "timm":
        others = [name.removeprefix("tf_") if name.startswith("tf_") else f"tf_{name}"]
    else:
        others = [name.removesuffix("b") if name.endswith("b") else f"{name}b"]
    with torch.device("meta"):
        ours = {key: tensor.shape for key, tensor in _tensors(create(peer, classes)).items()}
        found = []
        for other in others:
            try:
                theirs = _tensors(create(f"{library}:{other}", classes))
            except (RuntimeError, ValueError):  # there is none of that name
                continue
            if {key: tensor.shape for key, tensor in theirs.items()} == ours:
                found.append(f"{library}:{other}")
    return found


def _translated(spec: Spec, network: nn.Module, peer: nn.Module, name: str) -> dict[str, Tensor]:
    """In double precision: on noise, deep networks magnify rounding beyond any tolerance."""
    size = spec.input
    generator = torch.Generator().manual_seed(0)
    crops = torch.randn(2, size.channels, size.height, size.width, generator=generator).double()
    network.eval()
    try:
        return _agreeing(network.double(), peer, crops)
    except LookupError:
        raise WeightsMismatch(
            f"the weights have the names of {name}, but with them {spec.name} computes something "
            "else"
        ) from None
    finally:
        network.float()


def _agreeing(network: nn.Module, peer: nn.Module, crops: Tensor) -> dict[str, Tensor]:
    """The tensors of ``peer`` by the keys of ``network``. Raises LookupError when none agree."""
    source = {key: tensor.clone() for key, tensor in _tensors(peer).items()}
    peer.double()
    with torch.inference_mode():
        expected = peer(crops)
    for order in (_defined, _called):
        state = _paired(order(network, crops), order(peer, crops), _tensors(network), source)
        if state is None:
            continue
        network.load_state_dict(state, strict=False)
        with torch.inference_mode():
            difference = (network(crops) - expected).abs().max()
        if difference <= _TOLERANCE * expected.std():
            return state
    raise LookupError


def _paired(
    ours: list[str], theirs: list[str], wanted: dict[str, Tensor], source: dict[str, Tensor]
) -> dict[str, Tensor] | None:
    """The peer's tensors under our keys, layer by layer; None when they do not pair up."""
    state = {}
    for our, their in zip(ours, theirs, strict=False):
        for tensor in _TENSORS:
            key, other = f"{our}.{tensor}", f"{their}.{tensor}"
            if (key in wanted) != (other in source):
                return None
            if key in wanted:
                if wanted[key].numel() != source[other].numel():
                    return None
                # a matrix may be a convolution over the whole map, and the other way round
                state[key] = source[other].reshape(wanted[key].shape).clone()
    return state if state.keys() == wanted.keys() else None


def _defined(network: nn.Module, _crops: Tensor) -> list[str]:
    """The layers with tensors of their own, in the order of definition."""
    return list(dict.fromkeys(key.rpartition(".")[0] for key in _tensors(network)))


def _called(network: nn.Module, crops: Tensor) -> list[str]:
    """The same layers, in the order of the forward pass."""
    names: dict[str, None] = {}
    layers = dict(network.named_modules())

    def note(name: str) -> Callable[[nn.Module, object], None]:
        return lambda _layer, _inputs: names.setdefault(name)

    hooks = [
        layers[name].register_forward_pre_hook(note(name)) for name in _defined(network, crops)
    ]
    try:
        with torch.inference_mode():
            network(crops)
    finally:
        for hook in hooks:
            hook.remove()
    return list(names)


def _tensors(network: nn.Module) -> dict[str, Tensor]:
    state = network.state_dict()
    return {key: value for key, value in state.items() if not key.endswith(_COUNTER)}


def builder(name: str) -> Builder:
    """What builds ``library:network``, untrained, for a number of classes."""
    return lambda classes: create(name, classes)


def create(name: str, classes: int = 1000) -> nn.Module:
    """Build ``library:network``, untrained."""
    library, _, network = name.partition(":")
    module: nn.Module
    if library == "timm":
        import timm

        module = timm.create_model(network, pretrained=False, num_classes=classes)
    else:
        from pytorchcv.model_provider import get_model

        module = get_model(network, pretrained=False, num_classes=classes)
    return module
