"""One network, loaded: its manifest, labels, and for each of its graphs a session and a batcher."""

from __future__ import annotations

import logging
from time import perf_counter

from service import repository
from service.engine import tuning
from service.engine.batcher import Batcher, BatchObserver
from service.engine.pool import Pool
from service.engine.providers import choose
from service.engine.session import Outputs, Session
from service.manifest import Manifest
from service.preprocessing import Crops
from service.protocols import PROTOCOLS, Graph
from service.repository import RefusedModelError, Version
from service.settings import Settings

logger = logging.getLogger("zoo.model")

GPU_BATCH = 64
"""Most crops in a batch on a GPU where no setting says otherwise."""
CPU_BATCH = 8
"""The same on a CPU, where more than one rarely pays."""
GPU_IN_FLIGHT = 2
"""Batches on their way on a GPU: one computes while the next is copied."""


class Model:
    """A version of a network that can compute crops."""

    def __init__(self, found: Version, manifest: Manifest, settings: Settings) -> None:
        """Check the files, open the sessions and warm them up; blocking, some 100 ms.

        Raises RefusedModelError or BrokenModelError.
        """
        started = perf_counter()
        self.name, self.version = manifest.name, manifest.version
        self.manifest = manifest
        repository.check_files(found.path, manifest)
        self.labels = repository.labels(found.path, manifest)
        self.precision = manifest.file("model").precision
        providers = choose(settings.providers)
        self._sessions = {
            graph: Session(found.path / manifest.file(graph).path, manifest, providers, graph)
            for graph in _graphs(manifest)
        }
        self.providers = self._sessions["model"].providers
        self._on_cpu = self.providers[0] == "cpu"
        for session in self._sessions.values():
            session.warm_up(1)
        self.batch_costs = self._learn(settings.max_batch)
        self.max_batch = tuning.best(self.batch_costs)
        self.batchers: dict[Graph, Batcher] = {}
        logger.info(
            "loaded %s version %s on %s in %.0f ms; batches of %d, ms per crop by size: %s",
            found.name,
            found.version,
            ",".join(self.providers),
            1e3 * (perf_counter() - started),
            self.max_batch,
            ", ".join(f"{size}: {1e3 * cost:.2f}" for size, cost in self.batch_costs.items()),
        )

    def _learn(self, most: int) -> dict[int, float]:
        """Seconds per crop by batch size; ``most`` is the setting's cap, 0 for none."""
        session = self._sessions["model"]
        if self._on_cpu:
            return tuning.measure(session.warm_up, most or CPU_BATCH, patience=1, seconds=0.5)
        return tuning.measure(session.warm_up, most or GPU_BATCH)

    @property
    def random(self) -> bool:
        """Whether the weights were never trained: its answers are for trying out."""
        return self.manifest.weights.source == "random"

    def run(self, graph: Graph, crops: Crops) -> Outputs:
        """Compute crops at once, in the caller's thread: what the batchers do, without a queue."""
        return self._sessions[graph].run(crops)

    def open(self, pool: Pool, observer: BatchObserver) -> None:
        """Start to accept crops, in the event loop that calls this."""
        self.batchers = {
            graph: Batcher(
                session.run,
                pool=pool,
                concurrency=pool.threads if self._on_cpu else GPU_IN_FLIGHT,
                max_batch=self.max_batch,
                observer=observer,
            )
            for graph, session in self._sessions.items()
        }

    async def close(self) -> None:
        """Finish what was accepted."""
        for batcher in self.batchers.values():
            await batcher.close()

    def release(self) -> None:
        """Drop the sessions and their memory, after `close`; blocking, some ms."""
        self.batchers.clear()
        self._sessions.clear()


def _graphs(manifest: Manifest) -> list[Graph]:
    """The graphs that the model's protocols need, each of which must have a file."""
    wanted: list[Graph] = ["model"]
    for name in manifest.protocols.names:
        graph = PROTOCOLS[name].graph
        if graph not in wanted:
            wanted.append(graph)
    for graph in wanted:
        if not any(file.role == graph for file in manifest.files):
            raise RefusedModelError(f"its protocols need a file with the role {graph}")
    return wanted
