"""One network, loaded: its manifest, labels, and for each of its graphs a session and a batcher."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from time import perf_counter

from service import metrics, repository
from service.engine.batcher import Batcher, BatchObserver
from service.engine.opening import providers_for
from service.engine.providers import GPU
from service.engine.session import Session
from service.manifest import Manifest
from service.protocols import PROTOCOLS, Graph
from service.repository import RefusedModelError, Version
from service.settings import Settings

logger = logging.getLogger("zoo.model")

GPU_BATCH = 32
"""Most crops in a batch on a GPU, until it is measured at warm-up."""


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
        wanted_batch = settings.of_model(found.name).max_batch
        providers = providers_for(settings, found.name)
        self._sessions = {
            graph: Session(
                found.path / manifest.file(graph).path,
                manifest,
                providers,
                graph,
                settings=settings,
                max_batch=wanted_batch or (GPU_BATCH if providers[0] in GPU else 1),
                shrunk=partial(self._shrunk, graph),
            )
            for graph in _graphs(manifest)
        }
        self.providers = self._sessions["model"].providers
        self.nodes = self._sessions["model"].nodes
        self.max_batch = wanted_batch or (GPU_BATCH if self.providers[0] in GPU else 1)
        """Most crops in one batch; a device short of memory lowers it."""
        self.batchers: dict[Graph, Batcher] = {}
        for session in self._sessions.values():
            for size in session.sizes:
                session.warm_up(size)
        logger.info(
            "loaded %s version %s on %s in %.0f ms",
            found.name,
            found.version,
            ",".join(self.providers),
            1e3 * (perf_counter() - started),
        )

    @property
    def random(self) -> bool:
        """Whether the weights were never trained: its answers are for trying out."""
        return self.manifest.weights.source == "random"

    def open(self, executor: ThreadPoolExecutor, concurrency: int, observer: BatchObserver) -> None:
        """Start to accept crops, in the event loop that calls this."""
        self.batchers = {
            graph: Batcher(
                session.run,
                executor=executor,
                concurrency=min(concurrency, session.at_once or concurrency),
                max_batch=self.max_batch,
                observer=observer,
            )
            for graph, session in self._sessions.items()
        }

    async def close(self) -> None:
        """Finish what was accepted."""
        for batcher in self.batchers.values():
            await batcher.close()
        for session in self._sessions.values():
            session.close()

    def _shrunk(self, graph: Graph, crops: int) -> None:
        """The device has memory for this many crops only: form no larger batches any more."""
        if graph == "model":
            self.max_batch = min(self.max_batch, crops)
            metrics.MODEL_MAX_BATCH.labels(self.name, self.version).set(self.max_batch)
        if graph in self.batchers:
            self.batchers[graph].max_batch = min(self.batchers[graph].max_batch, crops)


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
