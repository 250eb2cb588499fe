"""Puts several networks together to an ensemble, which answers like a single network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from service.errors import BadParameter, ZooError
from service.manifest import EnsembleManifest, Label, Member, RefusedModelError
from service.repository.descriptions import ServedEnsemble
from service.repository.network import Network, Part, Plan, protocol_of
from service.repository.servable import Servable
from service.repository.versions_on_disk import Version

PROTOCOL_NAME: Literal["ensemble"] = "ensemble"
"""The protocol that an ensemble's answers name; each member has a protocol of its own."""


class Ensemble(Servable):
    """A version of an ensemble whose members are all served.

    It is ready when all members are loaded and `compare_labels` has found their labels equal.
    """

    def __init__(
        self,
        found: Version,
        manifest: EnsembleManifest,
        find: Callable[[str, str | None], Network],
    ) -> None:
        """Look up the members with ``find``.

        ``find`` takes a name and a version (None: the one that answers) and returns the network,
        loaded or not, or raises a ZooError. Raises RefusedModelError when a member is missing,
        does not have its protocol or cannot do its scales, or has another number of classes than
        the first member or the manifest. `compare_labels` compares the labels themselves, once they
        are loaded.
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
        """One label per class, in the order of the outputs. Raises NotReady until it is loaded."""
        return self.networks[0].labels

    @property
    def random(self) -> bool:
        """Whether the weights of some member were never trained."""
        return any(network.random for network in self.networks)

    def describe(self) -> ServedEnsemble:
        return {
            "name": self.name,
            "version": self.version,
            "state": "ready" if self.ready else "loading" if self.loading else "unloaded",
            "classes": self.classes,
            "random_weights": self.random,
            "kind": "ensemble",
            "protocol": PROTOCOL_NAME,
            "members": [
                {
                    "model": part.network.name,
                    "version": part.network.version,
                    "protocol": part.protocol.name,
                    "weight": part.weight,
                    "scales": part.protocol.scales(part.manifest),
                }
                for part in self.parts
            ],
        }

    def plan(self, protocol: str | None) -> Plan:
        """Return how a picture is answered. Raises BadParameter for any protocol but its own."""
        if protocol not in (None, PROTOCOL_NAME):
            own = ", ".join(f"{part.network.name}:{part.protocol.name}" for part in self.parts)
            raise BadParameter(
                f"protocol {protocol!r} cannot be asked of the ensemble {self.name!r}, whose "
                f"members have their own ({own}): only {PROTOCOL_NAME!r}"
            )
        return self._plan

    @property
    def single_network(self) -> Network:
        """Raise BadParameter: an ensemble takes pictures, not crops."""
        raise BadParameter(f"the ensemble {self.name!r} takes pictures, not crops")

    def compare_labels(self) -> None:
        """Raise RefusedModelError where the labels of the members differ.

        Does nothing until all members are loaded.
        """
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
        protocol = protocol_of(network, member.protocol)
        manifest = network.manifest
        if member.scales:
            manifest = protocol.rescaled(manifest, member.scales)
        return Part(network, protocol, member.weight, manifest)
    except ZooError as error:
        raise RefusedModelError(f"its member {name} cannot be used: {error.detail}") from error


def weighted_mean(
    answers: Sequence[npt.NDArray[np.float32]], weights: Sequence[float]
) -> npt.NDArray[np.float32]:
    """Return the weighted mean of float32 [classes] vectors, computed in float64."""
    if len(answers) == 1:
        return answers[0]
    mean: npt.NDArray[np.float32] = np.average(
        np.stack(answers).astype(np.float64), axis=0, weights=weights
    ).astype(np.float32)
    return mean
