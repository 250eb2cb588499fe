"""Reading a state dict and fitting it to a network, with a clear word on what does not fit."""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from export.errors import UnreadableWeights, WeightsMismatch, WeightsUnavailable
from export.spec import Licence, Spec
from export.weights import caffe_model, key_mapping, untrained
from service.manifest import Weights, sha256_of

State = Mapping[str, Tensor]

_COUNTER = "num_batches_tracked"
"""A counter of training steps: unused in evaluation and absent from old checkpoints."""
_SHOWN = 3
RANDOM = Path("random")
_WRAPPINGS = ("state_dict", "model_state_dict", "model")
"""Where training scripts put the state dict in a checkpoint."""
_PARALLEL = "module."
"""What ``DataParallel`` puts before every key."""
_OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")
"""``norm.1.weight`` is ``norm1.weight``: torchvision's checkpoints are older than its code."""
_UNKNOWN_LICENCE = "not stated: the weights were given with --weights"


@dataclass(frozen=True)
class LoadedWeights:
    """A network with its weights, in evaluation mode, and the record of where they came from."""

    network: nn.Module
    record: Weights
    licence: Licence


def load(spec: Spec, file: Path | None, seed: int | None = None) -> LoadedWeights:
    """Build the network of ``spec`` with the weights of ``file``, or of its own source.

    The word ``random`` in the place of a file asks for untrained weights of ``seed`` (0 when
    None). Raises WeightsUnavailable, UnreadableWeights or WeightsMismatch.
    """
    if file == RANDOM:
        network = spec.build()
        chosen = seed or 0
        untrained.initialise(spec, network, chosen)
        record, licence = untrained.record(spec, chosen), untrained.licence(chosen)
        return LoadedWeights(network.eval(), record, licence)
    if seed is not None:
        raise WeightsUnavailable("--seed goes with --weights random")
    if file is None:
        source = spec.weights.locate(spec.name)
        record, licence = spec.weights.record(source), spec.weights.licence()
    else:
        source = file
        if not file.is_file():
            raise WeightsUnavailable(f"no such weights file: {file}")
        try:
            record, licence = _of_the_user(spec, file)
        except OSError as error:
            raise UnreadableWeights(f"cannot read {file}: {error.strerror}") from error
    network = spec.build()
    tensors = spec.weights.arranged(source, network, read)
    if spec.weights.strangers is not None:
        prefix, reason = spec.weights.strangers
        if any(key.startswith(prefix) for key in tensors):
            raise WeightsMismatch(f"{source.name} is not for {spec.name}: {reason}")
    state = key_mapping.understood(spec, network, needed(spec, tensors))
    fit(network, state, source.name, same_order=spec.weights.same_order)
    return LoadedWeights(network.eval(), record, licence)


def _of_the_user(spec: Spec, file: Path) -> tuple[Weights, Licence]:
    known = spec.weights.recognise(file)
    if known is not None:
        return known, spec.weights.licence()
    digest = sha256_of(file)
    record = Weights(source="checkpoint", origin=file.name, sha256=digest, licence=_UNKNOWN_LICENCE)
    text = (
        f"The weights came from the file {file.name} (SHA-256 {digest}), which the person who\n"
        "built this model named with --weights. Their licence was not stated.\n"
    )
    return record, Licence(_UNKNOWN_LICENCE, (("LICENSE", text),))


def read(file: Path) -> dict[str, Tensor]:
    """Read a state dict from .safetensors or .caffemodel, or .pth with ``weights_only=True``.

    Returns tensors by key, on the CPU. Raises UnreadableWeights when the file is neither, is
    broken, or holds anything but tensors: code in a pickle is refused, never run.
    """
    try:
        if file.suffix == caffe_model.SUFFIX:
            return caffe_model.read(file)
        state = _read_safetensors(file) if file.suffix == ".safetensors" else _read_pickle(file)
    except pickle.UnpicklingError as error:
        raise UnreadableWeights(
            f"{file} cannot be read as a state dict: torch.load(weights_only=True) refuses it, "
            "so it is broken or holds more than tensors"
        ) from error
    except Exception as error:
        # unpickling and unzipping raise whatever the bytes provoke
        reason = str(error).strip().split("\n")[0][:200] or type(error).__name__
        raise UnreadableWeights(f"{file} cannot be read as a state dict: {reason}") from error
    for wrapping in _WRAPPINGS:
        if isinstance(state, Mapping) and isinstance(state.get(wrapping), Mapping):
            state = state[wrapping]
    if not isinstance(state, Mapping) or not state:
        raise UnreadableWeights(f"{file} holds no state dict but {type(state).__name__}")
    for key, value in state.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise UnreadableWeights(f"{file} holds more than named tensors: see key {key!r}")
        odd = _oddity(value)
        if odd:
            raise UnreadableWeights(f"{file} holds a tensor that is {odd}: see key {key!r}")
    if all(key.startswith(_PARALLEL) for key in state):
        return {key.removeprefix(_PARALLEL): value for key, value in state.items()}
    return dict(state)


def _oddity(tensor: Tensor) -> str:
    """Why a tensor cannot be a network's weight, or nothing."""
    if tensor.is_meta:
        return "only announced: it has no numbers"
    if tensor.layout != torch.strided:
        return f"sparse ({tensor.layout})"
    if tensor.is_quantized:
        return "quantised"
    return "complex" if tensor.is_complex() else ""


def needed(spec: Spec, state: State) -> dict[str, Tensor]:
    """What of ``state`` answers pictures: no auxiliary heads; old names of DenseNet renewed."""
    kept = {key: value for key, value in state.items() if not key.startswith(spec.training_only)}
    return {_OLD_DENSENET.sub(r"\1\2", key): value for key, value in kept.items()}


def _read_safetensors(file: Path) -> object:
    from safetensors.torch import load_file

    return load_file(file)


def _read_pickle(file: Path) -> object:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about old pickles: what is wrong with one is raised
        return torch.load(file, map_location="cpu", weights_only=True)


def fit(network: nn.Module, state: State, file: str, *, same_order: bool = False) -> None:
    """Load ``state`` into ``network`` strictly: every key, every shape.

    With ``same_order``, a state dict none of whose keys the network knows is taken to have the
    same tensors in the same order. Raises WeightsMismatch, naming what differs.
    """
    expected = {key: value for key, value in network.state_dict().items() if not _counter(key)}
    given = {key: value for key, value in state.items() if not _counter(key)}
    if same_order and not expected.keys() & given.keys():
        given = _renamed(given, expected, file)
    complaints = [
        _complaint("missing", expected.keys() - given.keys()),
        _complaint("unexpected", given.keys() - expected.keys()),
        _complaint(
            "misshapen",
            (
                f"{key} {_shape(given[key])} instead of {_shape(value)}"
                for key, value in expected.items()
                if key in given and given[key].shape != value.shape
            ),
        ),
    ]
    found = "; ".join(complaint for complaint in complaints if complaint)
    if found:
        raise WeightsMismatch(f"{file} does not fit the network: {found}")
    counters = {key: value for key, value in network.state_dict().items() if _counter(key)}
    network.load_state_dict({**counters, **given}, strict=True)


def _renamed(given: State, expected: State, file: str) -> dict[str, Tensor]:
    """Give the tensors of ``given`` the keys of ``expected``, by their order."""
    if len(given) != len(expected):
        raise WeightsMismatch(
            f"{file} does not fit the network: {len(given)} tensors instead of {len(expected)}"
        )
    for key, wanted in zip(given, expected, strict=True):
        if key.rsplit(".", 1)[-1] != wanted.rsplit(".", 1)[-1]:
            raise WeightsMismatch(
                f"{file} does not fit the network: {key} stands where {wanted} was expected"
            )
    return dict(zip(expected, given.values(), strict=True))


def _counter(key: str) -> bool:
    return key.endswith(_COUNTER)


def _shape(tensor: Tensor) -> str:
    return f"[{', '.join(map(str, tensor.shape))}]"


def _complaint(kind: str, keys: Iterable[str]) -> str:
    names = sorted(keys, key=lambda key: [int(p) if p.isdigit() else p for p in _parts(key)])
    if not names:
        return ""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{kind} {', '.join(names[:_SHOWN])}{more}"


def _parts(key: str) -> list[str]:
    """``layer10.weight`` sorts after ``layer9.weight``: text and numbers alternate."""
    return re.split(r"(\d+)", key)
