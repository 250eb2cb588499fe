"""Ensembles: several networks that answer as one, and what a single network has in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from service.errors import BadParameter, ZooError
from service.manifest import EnsembleManifest, Label, Member, RefusedModelError
from service.repository.network import Network, Part, Plan, protocol_of
from service.repository.servable import Description, MemberDescription, Servable
from service.repository.versions_on_disk import Version

PROTOCOL_NAME = "ensemble"
"""What an answer names as its protocol: each member has its own."""


class Ensemble(Servable):
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
        self._labels_agree = False
        self._plan = Plan.of(self.parts, PROTOCOL_NAME)
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
        return self._labels_agree and all(network.ready for network in self.networks)

    @property
    def labels(self) -> list[Label]:
        """What the indices mean. Raises NotReady while the first member is not loaded."""
        return self.networks[0].labels

    @property
    def random(self) -> bool:
        """Whether any member was never trained."""
        return any(network.random for network in self.networks)

    def describe(self) -> Description:
        """What is said of it."""
        return Description(
            self.name,
            self.version,
            self.state,
            kind="ensemble",
            classes=self.classes,
            random=self.random,
            protocol=PROTOCOL_NAME,
            protocols=[PROTOCOL_NAME],
            members=[
                MemberDescription(network.name, network.version, protocol.name, weight)
                for network, protocol, weight in self.parts
            ],
        )

    def plan(self, protocol: str | None) -> Plan:
        """How it answers a picture. Raises BadParameter for a protocol that cannot be had."""
        if protocol not in (None, PROTOCOL_NAME):
            own = ", ".join(f"{part.network.name}:{part.protocol.name}" for part in self.parts)
            raise BadParameter(
                f"protocol {protocol!r} cannot be asked of the ensemble {self.name!r}, whose "
                f"members have their own ({own}): only {PROTOCOL_NAME!r}"
            )
        return self._plan

    @property
    def single_network(self) -> Network:
        """Raises BadParameter: an ensemble takes no crops."""
        raise BadParameter(f"the ensemble {self.name!r} takes pictures, not crops")

    def compare_labels(self) -> None:
        """Raise RefusedModelError when members have other labels, once all have been loaded."""
        if self._labels_agree or not all(network.ready for network in self.networks):
            return
        first = self.networks[0]
        for network in self.networks:
            if network.labels != first.labels:
                raise _other_labels(network, first)
        self._labels_agree = True


Answerer = Network | Ensemble
"""What can answer a request."""


def _other_labels(network: Network, first: Network) -> RefusedModelError:
    return RefusedModelError(f"the labels of {network.name} are not those of {first.name}")


def _part(member: Member, find: Callable[[str, str | None], Network]) -> Part:
    name = member.model if member.version is None else f"{member.model} version {member.version}"
    try:
        network = find(member.model, member.version)
        return Part(network, protocol_of(network, member.protocol), member.weight)
    except ZooError as error:
        raise RefusedModelError(f"its member {name} cannot be used: {error.detail}") from error


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
