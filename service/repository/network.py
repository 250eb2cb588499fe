"""Represents a version of a network, loaded or not, and plans how it answers a picture."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from service.config.settings import ModelSettings, PrecisionName, Settings
from service.engine.model import CPU_BATCH, Model
from service.engine.termination import Termination
from service.errors import BadParameter, NotReady
from service.imaging.crops import Crops
from service.imaging.protocols import PROTOCOLS, Protocol
from service.manifest import Label, Manifest
from service.repository import versions_on_disk
from service.repository.descriptions import ServedNetwork, UnloadedNetwork
from service.repository.servable import Servable
from service.repository.versions_on_disk import Version
from service.telemetry.model_metrics import Running

WEIGHTS_FACTOR = 1.05
BYTES_PER_INPUT = 40
FIXED_BYTES = 1_000_000
"""The factors of `estimated_bytes`."""


class Network(Servable):
    """A version of a network: its manifest and, while it is loaded, the model that computes."""

    def __init__(self, found: Version, manifest: Manifest, settings: ModelSettings) -> None:
        """``settings`` are those of this model, with the common ones filled in."""
        self.name, self.version = manifest.name, manifest.version
        self.found = found
        self.manifest = manifest
        self.classes = manifest.classes
        self.crop = (manifest.input.height, manifest.input.width, manifest.input.channels)
        """The shape of a crop."""
        self.networks = [self]
        self.estimated_bytes = estimated_bytes(
            manifest, settings.max_batch or CPU_BATCH, settings.precision
        )
        self._plans: dict[str | None, Plan] = {}
        """A cache, by the protocol that a request names."""
        self._model: Model | None = None

    @property
    def ready(self) -> bool:
        return self._model is not None

    @property
    def model(self) -> Model:
        """The model that computes. Raises NotReady while it is not loaded."""
        if self._model is None:
            raise NotReady(f"model {self.name!r} version {self.version} is not loaded")
        return self._model

    def seconds_per_crop(self) -> float:
        """Seconds that the whole engine needs per crop, measured at load; 0 while not loaded."""
        return 0.0 if self._model is None else self._model.seconds_per_crop

    @property
    def labels(self) -> list[Label]:
        """One label per class, in the order of the outputs. Raises NotReady until it is loaded."""
        return self.model.labels

    @property
    def random(self) -> bool:
        """Whether the weights were never trained, so that the answers mean nothing."""
        return self.manifest.weights.source == "random"

    @property
    def running(self) -> Running | None:
        return self._model

    def describe(self) -> ServedNetwork | UnloadedNetwork:
        """Return what transports show of this network: the most while it is loaded."""
        protocols, model = self.manifest.protocols, self._model
        unloaded: UnloadedNetwork = {
            "name": self.name,
            "version": self.version,
            "state": "loading" if self.loading else "unloaded",
            "classes": self.classes,
            "random_weights": self.random,
            "kind": "network",
            "network": self.manifest.network,
            "input": self.crop,
            "protocol": protocols.default,
            "protocols": protocols.names,
        }
        if model is None:
            return unloaded
        return {
            **unloaded,
            "state": "ready",
            "precision": model.precision,
            "graphs": model.precisions,
            "providers": model.providers,
            "nodes": model.nodes,
            "max_batch": model.max_batch,
            "batch_ms_per_crop": {
                str(size): round(1e3 * s, 3) for size, s in model.batch_costs.items()
            },
        }

    def plan(self, protocol: str | None) -> Plan:
        """Return how a picture is answered. Raises BadParameter for a protocol it does not have."""
        plan = self._plans.get(protocol)
        if plan is None:
            part = Part(self, protocol_of(self, protocol), 1.0, self.manifest)
            plan = self._plans[protocol] = Plan.of([part], part.protocol.name)
        return plan

    @property
    def single_network(self) -> Network:
        """The network that takes crops: this one."""
        return self

    def compare_labels(self) -> None:
        """Do nothing: only the members of an ensemble can differ. See `Ensemble.compare_labels`."""

    def check(self, crops: Crops) -> None:
        """Raise BadParameter where these are not uint8 [N, height, width, channels], N >= 1."""
        shape = self.crop
        if crops.ndim != 4 or crops.shape[1:] != shape or crops.dtype != np.uint8 or not crops.size:
            raise BadParameter(
                f"model {self.name!r} takes uint8 [N, {', '.join(map(str, shape))}] with N from 1 "
                f"on, not {crops.dtype} {list(crops.shape)}"
            )

    def take(self, model: Model) -> None:
        """Become ready: ``model`` computes from now on."""
        self._model = model

    def unload(self) -> Model:
        """Become unloaded. The caller closes and releases the model that is returned."""
        model = self.model
        self._model = None
        return model


class Part(NamedTuple):
    """One network's share of an answer."""

    network: Network
    protocol: Protocol
    weight: float
    manifest: Manifest
    """The network's, but for the scales of the protocol where this part has scales of its own."""


class Plan(NamedTuple):
    """How one picture is answered."""

    parts: list[Part]
    protocol: str
    """The protocol that the answer names."""
    crops: int
    """The number of crops of all parts together."""

    @classmethod
    def of(cls, parts: list[Part], protocol: str) -> Plan:
        """Return the plan of these parts."""
        return cls(parts, protocol, sum(p.protocol.count(p.manifest) for p in parts))

    def seconds_per_crop(self) -> float:
        """Seconds that the whole engine needs per crop, on average over the parts.

        0 where that was not measured: a network is not loaded, or takes whole pictures (dense).
        """
        seconds = 0.0
        for part in self.parts:
            each = part.network.seconds_per_crop() if part.protocol.graph == "model" else 0.0
            if not each:
                return 0.0
            seconds += each * part.protocol.count(part.manifest)
        return seconds / self.crops


def protocol_of(network: Network, name: str | None) -> Protocol:
    """Return the protocol of this name, or the network's default for None.

    Raises BadParameter, which lists the network's protocols.
    """
    supported = network.manifest.protocols
    chosen = name or supported.default
    if chosen not in supported.names:
        raise BadParameter(
            f"protocol {chosen!r} is none of model {network.name!r}'s: {', '.join(supported.names)}"
        )
    return PROTOCOLS[chosen]


def opened(
    found: Version, manifest: Manifest, settings: Settings, termination: Termination | None = None
) -> Model:
    """Check the files of a version and open its model. Blocks for some 100 ms or more.

    ``termination`` can end it. Raises RefusedModelError or BrokenModelError.
    """
    folder = found.path.resolve()  # once: a link may be changed meanwhile and lead elsewhere
    versions_on_disk.check_files(folder, manifest)
    labels = versions_on_disk.labels(folder, manifest)
    return Model(folder, manifest, labels, settings, termination)


def estimated_bytes(manifest: Manifest, batch: int, precision: PrecisionName | None = None) -> int:
    """Estimate how many bytes of memory a loaded network takes.

    The sum of the weights, once for each graph that its protocols need; of the memory that its
    layers need for ``batch`` crops, which ONNX Runtime keeps for the next batch; and of a fixed
    share per session. The factors fit the measured growth of processes on CPUs (docs/design.md).
    The growth itself is known only after the load, and is mixed with what requests take meanwhile.
    """
    graphs = {"model", *(PROTOCOLS[name].graph for name in manifest.protocols.names)}
    first = {file.role: file.bytes for file in reversed(manifest.files)}
    for file in manifest.files:
        if file.role == "model" and file.precision == precision:
            first["model"] = file.bytes
    shared = sum(file.bytes for file in manifest.files if file.role == "external_data")
    weights = sum(first.get(graph, 0) + shared for graph in graphs)
    size = manifest.input
    inputs = batch * size.height * size.width * size.channels
    return FIXED_BYTES + int(WEIGHTS_FACTOR * weights + BYTES_PER_INPUT * inputs)
