"""A loaded network: its manifest, labels, and a session and a batcher for each of its graphs."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from time import perf_counter

from service.config.cpus import available_cores
from service.config.settings import GPU, ProviderName, Settings
from service.engine import batch_tuning
from service.engine.batcher import Batcher
from service.engine.pool import Pool
from service.engine.providers import openvino
from service.engine.session import Outputs, Session
from service.engine.session_factory import providers_for
from service.engine.termination import Termination
from service.imaging.crops import Crops
from service.imaging.protocols import PROTOCOLS, Graph
from service.manifest import Label, Manifest, ModelFile, Precision, RefusedModelError
from service.telemetry import metrics
from service.telemetry.model_metrics import ModelObserver

logger = logging.getLogger("zoo.model")

GPU_BATCH = 64
"""Most crops in a batch on a GPU where no setting says otherwise."""
CPU_BATCH = 8
"""Most crops in a batch on a CPU where no setting says otherwise: there batches rarely pay."""
_CPU_GAIN = 0.85
"""On a CPU a larger batch must cost less than this share per crop (`batch_tuning`): in service it
saves less than measured, since other threads cut its crops, which have left the caches."""
_CPU_SLICE_S = 0.01
"""Seconds for which a size is run in a row when it is measured on a CPU: a single run would be
timed with what the run of another size has left in the caches."""


class Model:
    """A version of a network that is loaded and computes crops."""

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        labels: list[Label],
        settings: Settings,
        termination: Termination | None = None,
    ) -> None:
        """Open the sessions of checked files and warm them up. Blocks for 100 ms and more.

        ``folder`` is the version's, without links in its path. ``termination`` can end the load.
        Raises RefusedModelError where no file or provider fits the settings, BrokenModelError where
        a graph cannot be opened or run, or the load was ended.
        """
        termination = termination or Termination()
        started = perf_counter()
        self.name, self.version = manifest.name, manifest.version
        self.manifest = manifest
        self.labels = labels
        own = settings.of_model(self.name)
        file = _file(manifest, None if own.precision == "auto" else own.precision)
        self.precision = file.precision
        files = {graph: manifest.file(graph) for graph in _graphs(manifest)} | {"model": file}
        self.precisions: dict[str, str | None] = {g: file.precision for g, file in files.items()}
        """The precision of each graph. `dense` is in single precision, whatever `model` has."""
        providers = providers_for(settings, self.name)
        if self.precision == "bf16":
            _demand_bf16(providers)
        on_gpu = providers[0] in GPU
        most = own.max_batch or (GPU_BATCH if on_gpu else CPU_BATCH)
        self._sessions = {
            graph: Session(
                folder / file.path,
                manifest,
                providers,
                graph,
                settings=settings,
                max_batch=most if on_gpu else 1,
                shrunk=partial(self._shrunk, graph),
                termination=termination,
            )
            for graph, file in files.items()
        }
        self.providers = self._sessions["model"].providers
        self.fallback = self.providers[0] != (own.providers or providers)[0]
        """Whether another provider computes than the first one named, or the one `auto` chose."""
        self.nodes = self._sessions["model"].nodes
        self.max_batch = min(most, self._sessions["model"].max_batch or most)
        """Most crops in one batch: learnt here, and lowered when the device runs out of memory."""
        self.batchers: dict[Graph, Batcher] = {}
        for session in self._sessions.values():
            for size in session.sizes:
                termination.check()
                session.warm_up(size)
            session.verify()
        self.batch_costs, best = self._learn(min(settings.pool_threads, available_cores()))
        self.max_batch = min(self.max_batch, best)
        at_once = 1 if self.providers[0] in GPU else min(settings.pool_threads, available_cores())
        self.seconds_per_crop = min(self.batch_costs.values()) / at_once
        """Seconds per crop when all threads compute this model and nothing else."""
        for session in self._sessions.values():
            session.begin()
        logger.info(
            "loaded %s version %s on %s in %.0f ms; batches of %d, ms per crop by size: %s",
            self.name,
            self.version,
            ",".join(self.providers),
            1e3 * (perf_counter() - started),
            self.max_batch,
            ", ".join(f"{size}: {1e3 * cost:.2f}" for size, cost in self.batch_costs.items()),
        )

    def _learn(self, threads: int) -> tuple[dict[int, float], int]:
        """Return seconds per crop by batch size, up to where larger ones stop paying, and the best
        size.
        """
        run = self._sessions["model"].run_gray
        if self.providers[0] in GPU:
            costs = batch_tuning.measure(run, self.max_batch)
            return costs, batch_tuning.best(costs)
        costs = batch_tuning.measure(
            run,
            self.max_batch,
            at_once=threads,
            slice_s=_CPU_SLICE_S,
            gain=_CPU_GAIN,
            patience=1,
            seconds=0.5,
        )
        return costs, batch_tuning.best(costs, _CPU_GAIN)

    def run(self, graph: Graph, crops: Crops) -> Outputs:
        """Compute crops now, in the caller's thread, without the batchers' queue."""
        return self._sessions[graph].run(crops)

    def open(self, pool: Pool, observer: ModelObserver) -> None:
        """Start the batchers, which run in ``pool``. Called in the event loop."""
        self.batchers = {
            graph: Batcher(
                session.run,
                pool=pool,
                concurrency=min(pool.threads, session.at_once or pool.threads),
                max_batch=self.max_batch,
                observer=observer,
            )
            for graph, session in self._sessions.items()
        }

    async def close(self) -> None:
        """Refuse new crops, wait for those that were accepted, and end the lanes' threads."""
        for batcher in self.batchers.values():
            await batcher.close()
        for session in self._sessions.values():
            session.close()

    def _shrunk(self, graph: Graph, crops: int) -> None:
        """Form no larger batches than ``crops`` any more, as the device has no memory for them."""
        if graph == "model":
            self.max_batch = min(self.max_batch, crops)
            metrics.MODEL_MAX_BATCH.labels(self.name, self.version).set(self.max_batch)
        if graph in self.batchers:
            self.batchers[graph].max_batch = min(self.batchers[graph].max_batch, crops)

    def release(self) -> None:
        """Drop the sessions and their memory, after `close`. Blocks for some ms."""
        self.batchers.clear()
        for session in self._sessions.values():
            session.release()
        self._sessions.clear()


def _file(manifest: Manifest, precision: Precision | None) -> ModelFile:
    """Return the network's file of this precision, or of any for None.

    Raises RefusedModelError where there is none: a file of another precision never stands in.
    """
    try:
        return manifest.file("model", precision)
    except KeyError:
        has = ", ".join(manifest.model_precisions) or "files of no stated precision"
        raise RefusedModelError(f"the precision {precision} is asked for, it has {has}") from None


def _demand_bf16(providers: Sequence[ProviderName]) -> None:
    """Raise RefusedModelError where bfloat16 cannot be computed as such."""
    why = f"the providers that work here are {', '.join(providers)}"
    if "openvino" in providers:
        why = openvino.no_bf16() or ""
    if why:
        raise RefusedModelError(f"the precision bf16 is computed by openvino alone, and {why}")


def _graphs(manifest: Manifest) -> list[Graph]:
    """Return the graphs that the model's protocols need. Raises RefusedModelError if one lacks."""
    needed: list[Graph] = ["model"]
    for name in manifest.protocols.names:
        graph = PROTOCOLS[name].graph
        if graph not in needed:
            needed.append(graph)
    for graph in needed:
        if not any(file.role == graph for file in manifest.files):
            raise RefusedModelError(f"its protocols need a file with the role {graph}")
    return needed
