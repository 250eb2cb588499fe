"""From a file of weights to a network that has them, with a clear word on what does not fit."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor, nn

from export.errors import UnreadableWeights, WeightsMismatch, WeightsUnavailable
from export.spec import Licence, Spec
from export.weights import (
    checkpoint,
    head,
    key_mapping,
    model_config,
    recognition,
    transformers_keys,
    untrained,
)
from export.weights.checkpoint import Checkpoint
from export.weights.model_config import ModelConfig
from service.manifest import Weights, sha256_of

State = Mapping[str, Tensor]

_COUNTER = "num_batches_tracked"
"""A counter of training steps: unused in evaluation and absent from old checkpoints."""
_SHOWN = 3
RANDOM = Path("random")
_OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")
"""``norm.1.weight`` is ``norm1.weight``: torchvision's checkpoints are older than its code."""
_UNKNOWN_LICENCE = "not stated: the weights were given with --weights"
_HALF = 0.5


@dataclass(frozen=True)
class Reading:
    """How a user's file of weights is to be read."""

    classes: int | None = None
    """How many classes it must have; None: as many as its last layer has."""
    prefix: str | None = None
    """What is before the network's keys; None: it is found."""
    averaged: bool = True
    """Whether a moving average of the weights is taken where the file has one."""
    trained_as: str | None = None
    """The network as which the weights were trained, by the user's word."""


@dataclass(frozen=True)
class Found:
    """Weights that were read, and the record of where they came from."""

    checkpoint: Checkpoint
    record: Weights
    licence: Licence
    recognised: bool
    """Whether they are known to be those of the network's own source."""
    config: ModelConfig | None = None
    """What a config.json beside a user's file says."""


@dataclass(frozen=True)
class LoadedWeights:
    """A network with its weights, in evaluation mode, and the record of where they came from."""

    spec: Spec
    """What is known about the network, for as many classes as it has."""
    network: nn.Module
    record: Weights
    licence: Licence
    recognised: bool = False
    remarks: tuple[str, ...] = ()
    """What was done to fit the weights to the network, a sentence each."""


def load(
    spec: Spec,
    file: Path | None,
    seed: int | None = None,
    reading: Reading = Reading(),
) -> LoadedWeights:
    """Build the network of ``spec`` with the weights of ``file``, or of its own source.

    The word ``random`` in the place of a file asks for untrained weights of ``seed`` (0 when
    None). Raises WeightsUnavailable, UnreadableWeights or WeightsMismatch.
    """
    if file == RANDOM:
        return random(spec, seed or 0, reading)
    if seed is not None:
        raise WeightsUnavailable("--seed goes with --weights random")
    return fill(spec, find(spec, file, reading), reading)


def random(spec: Spec, seed: int, reading: Reading = Reading()) -> LoadedWeights:
    """The network of ``spec``, for the classes asked for, with untrained weights of ``seed``."""
    spec = replace(spec, classes=reading.classes or spec.classes)
    network = spec.build()
    untrained.initialise(spec, network, seed)
    record, licence = untrained.record(spec, seed), untrained.licence(seed)
    return LoadedWeights(spec, network.eval(), record, licence)


def find(spec: Spec, file: Path | None, reading: Reading = Reading()) -> Found:
    """The weights in ``file``, or those of the network's own source, read but not yet fitted.

    Raises WeightsUnavailable, UnreadableWeights, and WeightsMismatch for a file that is not the
    one that its name says, or is for another network by the config.json beside it.
    """
    config = None
    if file is None:
        source = spec.weights.locate(spec.name)
        record, licence = spec.weights.record(source), spec.weights.licence()
        recognised = spec.weights.verified
    else:
        source = file
        if not file.is_file():
            raise WeightsUnavailable(f"no such weights file: {file}")
        config = model_config.beside(file)
        if config is not None and config.network.partition(":")[2] != spec.network:
            raise WeightsMismatch(
                f"{config.file} says that the weights are for {config.network}, not "
                f"{spec.reference}"
            )
        try:
            recognition.check_name(file)
            record, licence, recognised = _of_the_user(spec, file)
        except OSError as error:
            raise UnreadableWeights(f"cannot read {file}: {error.strerror}") from error
    return Found(_opened(spec, source, reading), record, licence, recognised, config)


def _opened(spec: Spec, file: Path, reading: Reading) -> Checkpoint:
    """What ``file`` holds, in a form of the authors' own or in one of everybody's."""
    opened = Checkpoint(file, {})

    def read(path: Path) -> dict[str, Tensor]:
        nonlocal opened
        opened = checkpoint.read(path, averaged=reading.averaged)
        return opened.tensors

    tensors = spec.weights.arranged(file, spec.build, read)
    return replace(opened, tensors=tensors)


def fill(spec: Spec, found: Found, reading: Reading = Reading()) -> LoadedWeights:
    """Build the network of ``spec`` for as many classes as the weights have, and load them.

    Raises WeightsMismatch, naming what differs.
    """
    tensors = found.checkpoint.tensors
    file = found.checkpoint.file.name
    if spec.weights.strangers is not None:
        prefix, reason = spec.weights.strangers
        if any(key.startswith(prefix) for key in tensors):
            raise WeightsMismatch(f"{file} is not for {spec.name}: {reason}")
    tensors = transformers_keys.renamed(tensors)
    spec, state, remarks = _of_network(spec, tensors, reading)
    if reading.classes is not None and reading.classes != spec.classes:
        raise WeightsMismatch(
            f"{file} is for {spec.classes} classes, --classes says {reading.classes}"
        )
    network = spec.build()
    trusted = found.recognised
    state = key_mapping.understood(spec, network, state, reading.trained_as, trusted=trusted)
    fit(network, state, file, same_order=spec.weights.same_order)
    every = (*found.checkpoint.remarks, *remarks)
    return LoadedWeights(spec, network.eval(), found.record, found.licence, found.recognised, every)


def _of_network(
    spec: Spec, tensors: State, reading: Reading
) -> tuple[Spec, dict[str, Tensor], list[str]]:
    """``spec`` for the classes of ``tensors``, and what of them is the network's, with remarks.

    The keys are the network's own, or those of one of its peers.
    """
    for builder in (spec.builder, *(key_mapping.builder(peer) for peer in spec.peers)):
        form = replace(spec, builder=builder)
        shapes = head.shapes(form, spec.classes)
        bare, remarks = head.without_prefix(needed(spec, tensors), shapes.keys(), reading.prefix)
        bare = needed(spec, bare)
        lean = {key for key in shapes if not _counter(key)}
        if len(lean & bare.keys()) >= _HALF * len(lean):
            layer = head.last_layer(form, shapes)
            classes, state, words = head.fitted(bare, shapes, layer)
            return replace(spec, classes=classes or spec.classes), state, [*remarks, *words]
    return spec, needed(spec, tensors), []


def _of_the_user(spec: Spec, file: Path) -> tuple[Weights, Licence, bool]:
    known = spec.weights.recognise(file)
    if known is not None:
        return known, spec.weights.licence(), True
    digest = sha256_of(file)
    record = Weights(source="checkpoint", origin=file.name, sha256=digest, licence=_UNKNOWN_LICENCE)
    text = (
        f"The weights came from the file {file.name} (SHA-256 {digest}), which the person who\n"
        "built this model named with --weights. Their licence was not stated.\n"
    )
    return record, Licence(_UNKNOWN_LICENCE, (("LICENSE", text),)), False


def needed(spec: Spec, state: State) -> dict[str, Tensor]:
    """What of ``state`` answers pictures: no auxiliary heads; old names of DenseNet renewed."""
    kept = {key: value for key, value in state.items() if not key.startswith(spec.training_only)}
    return {_OLD_DENSENET.sub(r"\1\2", key): value for key, value in kept.items()}


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
