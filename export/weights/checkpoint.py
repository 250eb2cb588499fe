"""Reading a checkpoint: its tensors, and what a training script wrote beside them.

Nothing in a pickle is run: PyTorch reads it with ``weights_only=True``, which lets tensors and
plain values through, and here two more things that hold no code: ``argparse.Namespace``, in which
timm keeps the arguments of a training, and NumPy's scalars, in which losses are kept.
"""

from __future__ import annotations

import argparse
import pickle
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from export.errors import UnreadableWeights
from export.weights import caffe_model

_AVERAGED = ("state_dict_ema", "model_ema", "ema_state_dict", "ema")
"""Where training scripts put the moving average of the weights, the one they evaluate."""
_WRAPPINGS = ("state_dict", "model_state_dict", "model", "net", "network", "module", "weights")
"""Where they put the weights themselves."""
_DEEPEST = 4
"""Most wrappings around a state dict; a file may hold itself."""
_CLASS_LISTS = ("class_names", "classes", "idx_to_class", "class_to_idx", "id2label")
"""Under these names some scripts keep the names of the classes."""
SAVE_ANEW = (
    "where the class that it needs is at hand, save the tensors alone: "
    "torch.save(model.state_dict(), FILE)"
)


@dataclass(frozen=True)
class Checkpoint:
    """What a file of weights holds."""

    file: Path
    tensors: dict[str, Tensor]
    """By key, on the CPU."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Those of timm's train.py, where the file has them."""
    classes: tuple[str, ...] = ()
    """The names of the classes, where the file has them, in the order of the outputs."""
    remarks: tuple[str, ...] = ()


def read(file: Path, *, averaged: bool = True) -> Checkpoint:
    """Read weights from .safetensors, .caffemodel, or a pickle with ``weights_only=True``.

    Where the file holds a moving average of the weights as well, that is taken, unless
    ``averaged`` is False. Raises UnreadableWeights when the file is neither, is broken, or needs
    a class to be read: code in a pickle is refused, never run.
    """
    content = _content(file)
    remarks: list[str] = []
    state = content
    arguments: Mapping[str, Any] = {}
    classes: tuple[str, ...] = ()
    if isinstance(content, Mapping):
        arguments = _arguments(content.get("args"))
        classes = _classes(content)
        state, words = _weights(content, averaged=averaged)
        remarks += words
    if not isinstance(state, Mapping) or not state:
        raise UnreadableWeights(f"{file} holds no state dict but {type(state).__name__}")
    for key, value in state.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise UnreadableWeights(f"{file} holds more than named tensors: see key {key!r}")
        odd = _oddity(value)
        if odd:
            raise UnreadableWeights(f"{file} holds a tensor that is {odd}: see key {key!r}")
    return Checkpoint(file, dict(state), arguments, classes, tuple(remarks))


def _content(file: Path) -> object:
    try:
        if file.suffix == caffe_model.SUFFIX:
            return caffe_model.read(file)
        return _read_safetensors(file) if file.suffix == ".safetensors" else _read_pickle(file)
    except pickle.UnpicklingError as error:
        raise UnreadableWeights(
            f"{file} cannot be read as a state dict: torch.load(weights_only=True) refuses it, "
            f"so it is broken or holds more than tensors; {SAVE_ANEW}"
        ) from error
    except Exception as error:
        # unpickling and unzipping raise whatever the bytes provoke
        reason = str(error).strip().split("\n")[0][:200] or type(error).__name__
        raise UnreadableWeights(f"{file} cannot be read as a state dict: {reason}") from error


def _weights(content: Mapping[Any, Any], *, averaged: bool) -> tuple[object, list[str]]:
    """The state dict in a checkpoint, and what to say about the choice."""
    average = next((name for name in _AVERAGED if _is_state(content.get(name))), None)
    plain = next((name for name in _WRAPPINGS if _is_state(content.get(name))), None)
    if average is not None and (averaged or plain is None):
        beside = f"; the weights under {plain} were not taken" if plain is not None else ""
        words = [f"the weights are the moving average under {average}{beside}"]
        return _inner(content[average]), words
    if plain is None:
        return content, []
    left = f"; the moving average under {average} was not taken" if average is not None else ""
    return _inner(content[plain]), [f"the weights are those under {plain}{left}"] if left else []


def _inner(state: object) -> object:
    """A state dict that was wrapped twice."""
    for _ in range(_DEEPEST):
        if not isinstance(state, Mapping):
            break
        name = next((name for name in _WRAPPINGS if _is_state(state.get(name))), None)
        if name is None:
            break
        state = state[name]
    return state


def _is_state(value: object) -> bool:
    return isinstance(value, Mapping) and len(value) > 0


def _arguments(value: object) -> Mapping[str, Any]:
    """The arguments of timm's train.py; nothing where they are another script's."""
    found = vars(value) if isinstance(value, argparse.Namespace) else value
    if isinstance(found, Mapping) and isinstance(found.get("model"), str):
        return cast(Mapping[str, Any], found)
    return {}


def _classes(content: Mapping[Any, Any]) -> tuple[str, ...]:
    """Names of classes that lie beside the weights, or in a Lightning module's parameters."""
    for place in (content, content.get("hyper_parameters"), content.get("meta")):
        if not isinstance(place, Mapping):
            continue
        for name in _CLASS_LISTS:
            found = _ordered(place.get(name))
            if found:
                return found
    return ()


def _ordered(value: object) -> tuple[str, ...]:
    """The names in a list, or in a mapping between numbers from 0 and names."""
    if isinstance(value, Mapping):
        pairs = [(n, name) if isinstance(n, int) else (name, n) for n, name in value.items()]
        if not all(isinstance(n, int) and isinstance(name, str) for n, name in pairs):
            return ()
        numbered = dict(pairs)
        value = [numbered.get(n) for n in range(len(numbered))]
    if isinstance(value, (list, tuple)) and all(isinstance(each, str) and each for each in value):
        return tuple(value)
    return ()


def _oddity(tensor: Tensor) -> str:
    """Why a tensor cannot be a network's weight, or nothing."""
    if tensor.is_meta:
        return "only announced: it has no numbers"
    if tensor.layout != torch.strided:
        return f"sparse ({tensor.layout})"
    if tensor.is_quantized:
        return "quantised"
    if tensor.is_complex():
        return "complex"
    large = tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes()
    return "larger than what is stored of it" if large else ""


def _read_safetensors(file: Path) -> object:
    from safetensors.torch import load_file

    return load_file(file)


def _read_pickle(file: Path) -> object:
    plain: list[Any] = [argparse.Namespace, *_numpy_scalars()]
    with warnings.catch_warnings(), torch.serialization.safe_globals(plain):
        warnings.simplefilter("ignore")  # about old pickles: what is wrong with one is raised
        return torch.load(file, map_location="cpu", weights_only=True)


def _numpy_scalars() -> list[Any]:
    """What a pickled number of NumPy's names: its maker, under both its names, and its type."""
    maker = np.float64(0).__reduce__()[0]
    names = ("numpy._core.multiarray.scalar", "numpy.core.multiarray.scalar")
    kinds = (np.float64, np.float32, np.int64, np.int32, np.bool_)
    return [*((maker, name) for name in names), np.dtype, *(type(np.dtype(kind)) for kind in kinds)]
