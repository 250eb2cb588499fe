"""One model, loaded: its manifest, labels, session and batcher."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter

from service import repository
from service.engine.batcher import Batcher, BatchObserver
from service.engine.providers import choose
from service.engine.session import Session
from service.repository import Version
from service.settings import Settings

logger = logging.getLogger("zoo.model")

GPU_BATCH = 32
"""Most crops in a batch on a GPU, until it is measured at warm-up."""


class Model:
    """A version of a model that can answer. Use `load` to make one."""

    def __init__(self, found: Version, settings: Settings) -> None:
        """Check the files, open the session and warm it up; blocking, some 100 ms.

        Raises RefusedModelError or BrokenModelError.
        """
        started = perf_counter()
        self.manifest = repository.read(found)
        self.labels = repository.labels(found.path, self.manifest)
        file = self.manifest.file("model")
        self.precision = file.precision
        self.session = Session(found.path / file.path, self.manifest, choose(settings.providers))
        on_cpu = self.session.providers[0] == "cpu"
        self.max_batch = settings.max_batch or (1 if on_cpu else GPU_BATCH)
        self.session.warm_up(1)
        if self.max_batch > 1:
            self.session.warm_up(self.max_batch)
        self.batcher: Batcher | None = None
        logger.info(
            "loaded %s version %s on %s in %.0f ms",
            found.name,
            found.version,
            ",".join(self.session.providers),
            1e3 * (perf_counter() - started),
        )

    def open(self, executor: ThreadPoolExecutor, concurrency: int, observer: BatchObserver) -> None:
        """Start to accept crops, in the event loop that calls this."""
        self.batcher = Batcher(
            self.session.run,
            executor=executor,
            concurrency=concurrency,
            max_batch=self.max_batch,
            observer=observer,
        )
