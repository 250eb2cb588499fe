"""Ensembles: several networks that answer as one, and what a single network has in common."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from service.errors import BadParameter, NotReady, ZooError
from service.imaging.protocols import PROTOCOLS, Protocol
from service.manifest import EnsembleManifest, Member
from service.repository.network import Network, State
from service.repository.versions_on_disk import Label, RefusedModelError, Version

PROTOCOL_NAME = "ensemble"
"""What an answer names as its protocol: each member has its own."""


class Part(NamedTuple):
    """One network's share of an answer."""

    network: Network
    protocol: Protocol
    weight: float


class Plan(NamedTuple):
    """How one picture is answered."""

    parts: list[Part]
    protocol: str
    """What the answer names."""
    crops: int
    """Over all parts."""

    def seconds_per_crop(self) -> float:
        """What a crop takes the whole engine on average; 0 where that was not measured: a network
        is not loaded, or slides over whole pictures.
        """
        seconds = 0.0
        for part in self.parts:
            each = part.network.seconds_per_crop() if part.protocol.graph == "model" else 0.0
            if not each:
                return 0.0
            seconds += each * part.protocol.count(part.network.manifest)
        return seconds / self.crops


class Ensemble:
    """A version of an ensemble whose members are all served; it is ready when they are loaded."""

    def __init__(
        self,
        found: Version,
        manifest: EnsembleManifest,
        find: Callable[[str, str | None], Network],
    ) -> None:
        """``find`` gives a network by name and version, loaded or not, or raises a ZooError.

        Raises RefusedModelError when a member is missing, cannot do its protocol, or has other
        labels than the first as far as their number tells: see `compare_labels`.
        """
        self.name, self.version = manifest.name, manifest.version
        self.found = found
        self.manifest = manifest
        self.parts = [_part(member, find) for member in manifest.members]
        self.networks = list(dict.fromkeys(part.network for part in self.parts))
        self.classes = manifest.classes
        self.loading: asyncio.Task[NotReady | None] | None = None
        self.superseded = False
        """Whether nobody finds it any more: it was refused, or another has taken its place."""
        self._labels_agree = False
        self.plans: dict[str | None, Plan] = {}
        """By the protocol that is asked for, as far as it was: see `plan_of`."""
        first = self.networks[0]
        for network in self.networks:
            if network.classes != first.classes:
                raise _other_labels(network, first)
        if first.classes != self.classes:
            raise RefusedModelError(
                f"the members have {first.classes} classes, the manifest {self.classes}"
            )

    @property
    def ready(self) -> bool:
        """Whether it answers without a member being loaded first."""
        return self._labels_agree and all(network.ready for network in self.networks)

    @property
    def state(self) -> State:
        """What `GET /models` says."""
        return "ready" if self.ready else "loading" if self.loading else "unloaded"

    @property
    def labels(self) -> list[Label]:
        """What the indices mean. Raises NotReady while the first member is not loaded."""
        return self.networks[0].labels

    @property
    def random(self) -> bool:
        """Whether any member was never trained."""
        return any(network.random for network in self.networks)

    def compare_labels(self) -> None:
        """Raise RefusedModelError when members have other labels; once all have been loaded."""
        if self._labels_agree or not all(network.ready for network in self.networks):
            return
        first = self.networks[0]
        for network in self.networks:
            if network.labels != first.labels:
                raise _other_labels(network, first)
        self._labels_agree = True


def _other_labels(network: Network, first: Network) -> RefusedModelError:
    return RefusedModelError(f"the labels of {network.name} are not those of {first.name}")


def _part(member: Member, find: Callable[[str, str | None], Network]) -> Part:
    name = member.model if member.version is None else f"{member.model} version {member.version}"
    try:
        network = find(member.model, member.version)
        return Part(network, protocol_of(network, member.protocol), member.weight)
    except ZooError as error:
        raise RefusedModelError(f"its member {name} cannot be used: {error.detail}") from error


def protocol_of(model: Network, name: str | None) -> Protocol:
    """The protocol of this name, or the model's own. Raises BadParameter, naming its protocols."""
    supported = model.manifest.protocols
    chosen = name or supported.default
    if chosen not in supported.names:
        raise BadParameter(
            f"protocol {chosen!r} is none of model {model.name!r}'s: {', '.join(supported.names)}"
        )
    return PROTOCOLS[chosen]


def plan_of(model: Network | Ensemble, protocol: str | None) -> Plan:
    """How a model answers. Raises BadParameter for a protocol that cannot be had."""
    plan = model.plans.get(protocol)
    if plan is None:
        parts = _parts(model, protocol)
        name = PROTOCOL_NAME if isinstance(model, Ensemble) else parts[0].protocol.name
        crops = sum(part.protocol.count(part.network.manifest) for part in parts)
        plan = model.plans[protocol] = Plan(parts, name, crops)
    return plan


def _parts(model: Network | Ensemble, protocol: str | None) -> list[Part]:
    if isinstance(model, Network):
        return [Part(model, protocol_of(model, protocol), 1.0)]
    if protocol not in (None, PROTOCOL_NAME):
        own = ", ".join(f"{part.network.name}:{part.protocol.name}" for part in model.parts)
        raise BadParameter(
            f"protocol {protocol!r} cannot be asked of the ensemble {model.name!r}, whose members "
            f"have their own ({own}): only {PROTOCOL_NAME!r}"
        )
    return model.parts


def network_of(model: Network | Ensemble) -> Network:
    """The network that takes crops. Raises BadParameter for an ensemble: it takes pictures."""
    if isinstance(model, Ensemble):
        raise BadParameter(f"the ensemble {model.name!r} takes pictures, not crops")
    return model


def weighted_mean(
    answers: Sequence[npt.NDArray[np.float32]], weights: Sequence[float]
) -> npt.NDArray[np.float32]:
    """The mean of float32 [classes] vectors, computed in float64."""
    if len(answers) == 1:
        return answers[0]
    mean: npt.NDArray[np.float32] = np.average(
        np.stack(answers).astype(np.float64), axis=0, weights=weights
    ).astype(np.float32)
    return mean
