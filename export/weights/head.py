"""Fitting the keys of a user's state dict to a network: prefixes, and the last layer.

Which tensors are a network's last layer is found by building it for two numbers of classes: they
are those whose shapes differ. So it holds for every network, whatever it calls them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from export.errors import WeightsMismatch
from export.spec import Spec

State = Mapping[str, Tensor]
Shapes = dict[str, tuple[int, ...]]

MOST_CLASSES = 1_000_000
"""Far more than any trained classifier has."""
_DEEPEST = 4
"""Most dots in a prefix."""


def shapes(spec: Spec, classes: int) -> Shapes:
    """The shape of each tensor of the network for so many classes; it is built without numbers."""
    with torch.device("meta"):
        state = spec.builder(classes).state_dict()
    return {key: tuple(value.shape) for key, value in state.items()}


def last_layer(spec: Spec, these: Shapes) -> Shapes:
    """The tensors of the last layer by key, of the shapes for ``spec.classes``: [classes, …]."""
    others = shapes(spec, spec.classes + 1)
    return {key: shape for key, shape in these.items() if others.get(key) != shape}


def without_prefix(
    tensors: State, keys: Collection[str], prefix: str | None = None
) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors of the network alone, under the keys of it, and remarks on what was left out.

    ``module.``, ``_orig_mod.``, ``model.``, ``net.`` and whatever else wrappers and Lightning
    modules put before the keys goes: the prefix is the one behind which most of ``keys`` are.
    Raises WeightsMismatch where two prefixes hold the network, and ``prefix`` names none.
    """
    wanted = set(keys)
    found: Counter[str] = Counter()
    for key in tensors:
        parts = key.split(".")
        for depth in range(min(len(parts), _DEEPEST + 1)):
            if ".".join(parts[depth:]) in wanted:
                found["".join(f"{part}." for part in parts[:depth])] += 1
    if prefix is not None:
        chosen = prefix if not prefix or prefix.endswith(".") else f"{prefix}."
        if chosen not in found:
            known = ", ".join(repr(each) for each in found) or "none"
            raise WeightsMismatch(f"no key of the network is behind {chosen!r}: there are {known}")
    else:
        most = max(found.values(), default=0)
        best = [each for each, count in found.items() if count == most]
        if most == 0 or "" in best:
            return dict(tensors), []
        if len(best) > 1:
            raise WeightsMismatch(
                f"the network is there {len(best)} times, behind {' and '.join(sorted(best))}: "
                "--prefix says which"
            )
        (chosen,) = best
    kept = {k.removeprefix(chosen): t for k, t in tensors.items() if k.startswith(chosen)}
    beside = [key for key in tensors if not key.startswith(chosen)]
    if not beside or beside == ["n_averaged"]:
        return kept, []
    some = ", ".join(beside[:3])
    return kept, [f"{len(beside)} tensors beside those behind {chosen} were left out: {some}"]


def fitted(
    tensors: State, known: Collection[str], layer: Shapes
) -> tuple[int | None, dict[str, Tensor], list[str]]:
    """How many classes the last layer of ``tensors`` has; the tensors, renamed; and remarks.

    ``known`` are the network's keys, ``layer`` is its last layer; None: ``tensors`` have none of
    it. A last layer that was put into a Sequential, or in the place of one, has another key; it is
    taken where it is the only one of its shape. Raises WeightsMismatch where its tensors are for
    different numbers of classes.
    """
    state, remarks = dict(tensors), []
    modules = dict.fromkeys(key.rpartition(".")[0] for key in layer)
    for module in modules:
        if f"{module}.weight" in layer and f"{module}.weight" not in state:
            state, words = _renamed(module, layer, state, known)
            remarks += words
    counts = {len(state[key]) for key in layer if key in state and state[key].dim()}
    if len(counts) > 1:
        said = " and ".join(map(str, sorted(counts)))
        raise WeightsMismatch(f"the last layer has {said} classes: {', '.join(layer)}")
    classes = counts.pop() if counts else None
    if classes is not None and not 1 <= classes <= MOST_CLASSES:
        raise WeightsMismatch(
            f"the last layer has {classes} classes: 1 to {MOST_CLASSES} are served"
        )
    return classes, state, remarks


def _renamed(
    module: str, layer: Shapes, state: dict[str, Tensor], known: Collection[str]
) -> tuple[dict[str, Tensor], list[str]]:
    """``state`` with its last layer under the network's key, where that layer can be told."""
    inputs = layer[f"{module}.weight"][1:]
    top = module.partition(".")[0]
    candidates = [
        key.removesuffix(".weight")
        for key, tensor in state.items()
        if key not in known
        and key.endswith(".weight")
        and (key.partition(".")[0] == top)
        and tuple(tensor.shape[1:]) == inputs
    ]
    strange = {key for key in state if key not in known and key.partition(".")[0] == top}
    if len(candidates) != 1 or any(not key.startswith(f"{candidates[0]}.") for key in strange):
        return state, []
    (own,) = candidates
    moved = {
        f"{module}.{key.removeprefix(f'{own}.')}" if key.startswith(f"{own}.") else key: tensor
        for key, tensor in state.items()
    }
    return moved, [
        f"the last layer is {own} in the file and {module} in the network: what else was there has "
        "no tensors and is taken for dropout"
    ]
