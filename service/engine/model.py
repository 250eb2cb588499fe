"""One network, loaded: its manifest, labels, and for each of its graphs a session and a batcher."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter

from service import repository
from service.engine.batcher import Batcher, BatchObserver
from service.engine.providers import choose
from service.engine.session import Session
from service.manifest import Manifest, ModelFile, Precision
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
        file = _file(manifest, settings.precision_of(manifest.name))
        self.precision = file.precision
        providers = choose(settings.providers)
        files = {graph: manifest.file(graph) for graph in _graphs(manifest)} | {"model": file}
        self.precisions = {graph: file.precision for graph, file in files.items()}
        """By graph; the dense graph is in single precision, whatever the other is."""
        self._sessions = {
            graph: Session(found.path / file.path, manifest, providers, graph)
            for graph, file in files.items()
        }
        self.providers = self._sessions["model"].providers
        on_cpu = self.providers[0] == "cpu"
        self.max_batch = settings.max_batch or (1 if on_cpu else GPU_BATCH)
        for session in self._sessions.values():
            session.warm_up(1)
        if self.max_batch > 1:
            self._sessions["model"].warm_up(self.max_batch)
        self.batchers: dict[Graph, Batcher] = {}
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
                concurrency=concurrency,
                max_batch=self.max_batch,
                observer=observer,
            )
            for graph, session in self._sessions.items()
        }

    async def close(self) -> None:
        """Finish what was accepted."""
        for batcher in self.batchers.values():
            await batcher.close()


def _file(manifest: Manifest, precision: Precision | None) -> ModelFile:
    """The network's file of that precision. Raises RefusedModelError: never another instead."""
    try:
        return manifest.file("model", precision)
    except KeyError:
        there = ", ".join(manifest.model_precisions) or "files of no stated precision"
        raise RefusedModelError(f"the precision {precision} is asked for, it has {there}") from None


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
