"""A version of a network that the service knows, whether it is loaded or not."""

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
from service.repository.servable import Description, Servable
from service.repository.versions_on_disk import Version
from service.telemetry.model_metrics import Running

WEIGHTS_FACTOR = 1.05
BYTES_PER_INPUT = 40
FIXED_BYTES = 1_000_000
"""See `estimated_bytes`."""


class Network(Servable):
    """What the manifest says, and, while it is loaded, the model that computes."""

    def __init__(self, found: Version, manifest: Manifest, settings: ModelSettings) -> None:
        """``settings`` are the model's own, the common ones filled in."""
        self.name, self.version = manifest.name, manifest.version
        self.found = found
        self.manifest = manifest
        self.classes = manifest.classes
        self.networks = [self]
        self.estimated_bytes = estimated_bytes(
            manifest, settings.max_batch or CPU_BATCH, settings.precision
        )
        self._plans: dict[str | None, Plan] = {}
        """By the protocol that is asked for, as far as it was."""
        self._model: Model | None = None

    @property
    def ready(self) -> bool:
        return self._model is not None

    @property
    def model(self) -> Model:
        """What computes. Raises NotReady while it is not loaded."""
        if self._model is None:
            raise NotReady(f"model {self.name!r} version {self.version} is not loaded")
        return self._model

    def seconds_per_crop(self) -> float:
        """What a crop takes the whole engine, as measured at load; 0 while it is not loaded."""
        return 0.0 if self._model is None else self._model.seconds_per_crop

    @property
    def labels(self) -> list[Label]:
        """What the indices mean. Raises NotReady while it is not loaded."""
        return self.model.labels

    @property
    def random(self) -> bool:
        """Whether the weights were never trained: its answers are for trying out."""
        return self.manifest.weights.source == "random"

    def describe(self) -> Description:
        """What is said of it; how it computes only while it is loaded."""
        size, protocols = self.manifest.input, self.manifest.protocols
        running = None
        if (model := self._model) is not None:
            running = Running(
                precision=model.precision,
                graphs=model.precisions,
                providers=model.providers,
                fallback=model.fallback,
                nodes=model.nodes,
                max_batch=model.max_batch,
                batch_costs=model.batch_costs,
                estimated_bytes=self.estimated_bytes,
            )
        return Description(
            self.name,
            self.version,
            self.state,
            classes=self.classes,
            random=self.random,
            protocol=protocols.default,
            protocols=protocols.names,
            network=self.manifest.network,
            input=(size.height, size.width, size.channels),
            labels_file=self.manifest.labels,
            running=running,
        )

    def plan(self, protocol: str | None) -> Plan:
        """How it answers a picture. Raises BadParameter for a protocol that it does not have."""
        plan = self._plans.get(protocol)
        if plan is None:
            part = Part(self, protocol_of(self, protocol), 1.0)
            plan = self._plans[protocol] = Plan.of([part], part.protocol.name)
        return plan

    @property
    def single_network(self) -> Network:
        """Itself: what takes crops."""
        return self

    def compare_labels(self) -> None:
        """Nothing: no member could have other labels. See `Ensemble.compare_labels`."""

    def check(self, crops: Crops) -> None:
        """Raise BadParameter where these are not uint8 [N, height, width, channels], N >= 1."""
        size = self.manifest.input
        wanted = (size.height, size.width, size.channels)
        if (
            crops.ndim != 4
            or crops.shape[1:] != wanted
            or crops.dtype != np.uint8
            or not crops.size
        ):
            raise BadParameter(
                f"model {self.name!r} takes uint8 [N, {', '.join(map(str, wanted))}] with N from 1 "
                f"on, not {crops.dtype} {list(crops.shape)}"
            )

    def take(self, model: Model) -> None:
        """Become ready by this model."""
        self._model = model

    def unload(self) -> Model:
        """Become unloaded; whoever takes the model finishes its work and releases it."""
        model = self.model
        self._model = None
        return model


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

    @classmethod
    def of(cls, parts: list[Part], protocol: str) -> Plan:
        """The plan of these parts."""
        return cls(parts, protocol, sum(p.protocol.count(p.network.manifest) for p in parts))

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


def protocol_of(network: Network, name: str | None) -> Protocol:
    """The protocol of this name, or the model's own. Raises BadParameter, naming its protocols."""
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
    """Load a version of a network whose files are as its manifest says; blocking, some 100 ms.

    ``termination`` can end it. Raises RefusedModelError or BrokenModelError.
    """
    folder = found.path.resolve()  # once: a link that is turned meanwhile leads elsewhere
    versions_on_disk.check_files(folder, manifest)
    labels = versions_on_disk.labels(folder, manifest)
    return Model(folder, manifest, labels, settings, termination)


def estimated_bytes(manifest: Manifest, batch: int, precision: PrecisionName | None = None) -> int:
    """About how many bytes of memory a loaded network takes.

    Its weights, once for each graph that its protocols need; what its layers need for a batch of
    ``batch`` crops, which ONNX Runtime keeps for the next one; and a session's own share. The
    factors fit what processes on CPUs grew by (docs/design.md). That growth itself would be truer,
    but is known only afterwards, and mixed with what requests take meanwhile.
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
