"""Ensembles: several networks that answer as one, and what a single network has in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from service.engine.model import Model
from service.errors import BadParameter, ZooError
from service.manifest import EnsembleManifest, Member
from service.protocols import PROTOCOLS, Protocol
from service.repository import Label, RefusedModelError

PROTOCOL_NAME = "ensemble"
"""What an answer names as its protocol: each member has its own."""


class Part(NamedTuple):
    """One network's share of an answer."""

    model: Model
    protocol: Protocol
    weight: float


class Ensemble:
    """A version of an ensemble whose members are all there."""

    def __init__(
        self, manifest: EnsembleManifest, find: Callable[[str, str | None], Model]
    ) -> None:
        """``find`` gives a loaded network by name and version, or raises a ZooError.

        Raises RefusedModelError when a member is missing, cannot do its protocol, or has other
        labels than the first.
        """
        self.name, self.version = manifest.name, manifest.version
        self.manifest = manifest
        self.parts = [_part(member, find) for member in manifest.members]
        self.labels: list[Label] = self.parts[0].model.labels
        for part in self.parts:
            if part.model.labels != self.labels:
                first = self.parts[0].model.name
                raise RefusedModelError(f"the labels of {part.model.name} are not those of {first}")
        if len(self.labels) != manifest.classes:
            raise RefusedModelError(
                f"the members have {len(self.labels)} classes, the manifest {manifest.classes}"
            )

    @property
    def random(self) -> bool:
        """Whether any member was never trained."""
        return any(part.model.random for part in self.parts)


def _part(member: Member, find: Callable[[str, str | None], Model]) -> Part:
    name = member.model if member.version is None else f"{member.model} version {member.version}"
    try:
        model = find(member.model, member.version)
        return Part(model, protocol_of(model, member.protocol), member.weight)
    except ZooError as error:
        raise RefusedModelError(f"its member {name} cannot be used: {error.detail}") from error


def protocol_of(model: Model, name: str | None) -> Protocol:
    """The protocol of this name, or the model's own. Raises BadParameter, naming its protocols."""
    supported = model.manifest.protocols
    chosen = name or supported.default
    if chosen not in supported.names:
        raise BadParameter(
            f"protocol {chosen!r} is none of model {model.name!r}'s: {', '.join(supported.names)}"
        )
    return PROTOCOLS[chosen]


def parts_of(model: Model | Ensemble, protocol: str | None) -> list[Part]:
    """Which networks answer, and how. Raises BadParameter for a protocol that cannot be had."""
    if isinstance(model, Model):
        return [Part(model, protocol_of(model, protocol), 1.0)]
    if protocol not in (None, PROTOCOL_NAME):
        own = ", ".join(f"{part.model.name}:{part.protocol.name}" for part in model.parts)
        raise BadParameter(
            f"protocol {protocol!r} cannot be asked of the ensemble {model.name!r}, whose members "
            f"have their own ({own}): only {PROTOCOL_NAME!r}"
        )
    return model.parts


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
