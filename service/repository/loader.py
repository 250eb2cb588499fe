"""Loads networks when they are needed; unloads idle ones when memory is short, and the replaced."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Container, Iterable
from functools import partial
from time import perf_counter
from typing import Any

import onnxruntime

from service.config.settings import MEGABYTE, Settings
from service.engine.admission import Permit
from service.engine.allocator import give_back
from service.engine.model import Model
from service.engine.pool import Pool
from service.engine.session import BrokenModelError
from service.engine.termination import Termination
from service.errors import DeadlineExceeded, NotReady
from service.manifest import RefusedModelError
from service.repository.ensemble import Ensemble
from service.repository.network import Network, opened
from service.telemetry import metrics
from service.telemetry.model_metrics import ModelObserver

logger = logging.getLogger("zoo.loader")

TERMINATION_SECONDS = 2.0
"""For a load that is to end, until its thread is left to itself."""
LOAD_SECONDS, ENGINE_SECONDS = 300.0, 3600.0
"""For a load where no setting says otherwise, and where TensorRT builds engines."""

Changed = Callable[[Network, Exception | None], None]


class Superseded(Exception):
    """Loading showed that this version must not be served; another one may answer instead."""


def hold(networks: Iterable[Network]) -> None:
    """Keep these from being unloaded, until `let_go`."""
    for network in networks:
        network.uses += 1


def let_go(networks: Iterable[Network]) -> None:
    """End what `hold` began."""
    now = perf_counter()
    for network in networks:
        network.uses -= 1
        network.last_used = now
        if not network.uses and network.unused is not None:
            network.unused.set()


class Loader:
    """Which networks of a worker are loaded. Lives in one event loop.

    One network is loaded at a time, in a thread of its own: the pool's threads go on with the
    requests for what is loaded, and the system shares the cores out. A load that takes too long, or
    that nobody waits for at the stop, is ended; a thread that cannot be ended is left to itself.
    """

    def __init__(self, settings: Settings, pool: Pool, changed: Changed) -> None:
        """``pool`` computes what the networks accept.

        ``changed`` is told of each network that was loaded or unloaded, or with an error that it
        must be refused; it then marks what nobody finds any more as superseded.
        """
        self._settings = settings
        self._limit = settings.model_memory_mb * MEGABYTE
        self._pool = pool
        self._changed = changed
        self._loaded: set[Network] = set()
        self._tasks: set[asyncio.Task[NotReady | None]] = set()
        self._turn = asyncio.Lock()
        self.rollout = asyncio.Lock()
        """Held by a load beside what answers, which must stay meanwhile: two would block each other
        where memory is short."""
        self._thread = Pool(1, "zoo-load")
        self._unloading = Pool(1, "zoo-unload")
        """Memory is given back beside a load, which may take its time."""
        self._closing = asyncio.Event()
        self._leaving: dict[Network, asyncio.Task[None]] = {}
        self._kept: set[Network] = set()

    def fits(self, wanted: Network | Ensemble) -> bool:
        """Whether it can be loaded without unloading another."""
        needed = sum(network.estimated_bytes for network in _missing(wanted))
        return not self._limit or needed + self._bytes(self._loaded) <= self._limit

    async def load(self, wanted: Network | Ensemble, deadline: float = math.inf) -> None:
        """Wait until it is ready; whoever comes meanwhile waits for the same load.

        The load goes on when the caller is cancelled or its ``deadline`` (``time.perf_counter``)
        passes. Raises DeadlineExceeded then, NotReady when there is no room, and Superseded.
        """
        if wanted.ready:
            return
        if wanted.loading is None:
            wanted.loading = asyncio.ensure_future(self._load(wanted))
            self._tasks.add(wanted.loading)
            wanted.loading.add_done_callback(self._tasks.discard)
        task = wanted.loading
        patience = None if deadline == math.inf else max(0.0, deadline - perf_counter())
        await asyncio.wait({task}, timeout=patience)
        if not task.done():
            raise DeadlineExceeded(
                f"the deadline passed while model {wanted.name!r} was being loaded; that goes on"
            )
        if wanted.superseded:
            raise Superseded
        if (failure := task.result()) is not None:
            raise NotReady(failure.detail, retry_after=failure.retry_after)

    async def close(self) -> None:
        """End the load that runs, begin no other, and finish what was accepted."""
        self._closing.set()
        for network in self._leaving:
            if network.unused is not None:
                network.unused.set()
        tasks = [*self._tasks, *self._leaving.values()]
        if tasks:
            await asyncio.wait(tasks)
        for network in list(self._loaded):
            await network.model.close()
        self._thread.close()
        self._unloading.close()

    def sweep(self, needed: Callable[[], Container[Network]]) -> None:
        """Unload what is not ``needed``, each network once its requests are answered."""
        now = needed()
        for network in self._loaded:
            if network not in now and network not in self._leaving:
                task = asyncio.ensure_future(self._leave(network, needed))
                self._leaving[network] = task
                task.add_done_callback(partial(self._left, network))

    def keep(self, networks: set[Network]) -> None:
        """These alone are never unloaded while they are needed."""
        for network in self._kept - networks:
            network.kept = False
        for network in networks:
            network.kept = True
        self._kept = networks

    async def swept(self, name: str) -> None:
        """Wait until what `sweep` found of this model is unloaded."""
        leaving = [task for network, task in self._leaving.items() if network.name == name]
        if leaving:
            await asyncio.wait(leaving)

    def _left(self, network: Network, task: asyncio.Task[None]) -> None:
        del self._leaving[network]

    async def _leave(self, network: Network, needed: Callable[[], Container[Network]]) -> None:
        while network.uses and not self._closing.is_set():
            network.unused = asyncio.Event()
            await network.unused.wait()
        if not self._closing.is_set() and network in self._loaded and network not in needed():
            await self._unload(network, "it is not served any more")

    async def _load(self, wanted: Network | Ensemble) -> NotReady | None:
        """Load it. What a waiting request is told is returned: there may be many, or none."""
        try:
            if isinstance(wanted, Network):
                await self._load_network(wanted)
            else:
                await self._load_members(wanted)
        except NotReady as failure:
            return failure
        except Superseded:
            pass
        finally:
            wanted.loading = None
        return None

    async def _load_members(self, ensemble: Ensemble) -> None:
        hold(ensemble.networks)
        try:
            self._check_room(_missing(ensemble))
            for network in ensemble.networks:
                await self.load(network)
        finally:
            let_go(ensemble.networks)

    async def _load_network(self, network: Network) -> None:
        async with self._turn:
            if self._closing.is_set():
                raise NotReady("the service is stopping")
            if network.superseded:
                return
            await self._make_room(network)
            try:
                model = await self._build(network)
            except NotReady:
                raise
            except (OSError, MemoryError) as error:  # the next request tries again
                logger.exception("%s version %s cannot be loaded", network.name, network.version)
                metrics.MODEL_LOADS.labels(network.name, "failed").inc()
                reason = f"model {network.name!r} cannot be loaded now: {_words(error)}"
                raise NotReady(reason, retry_after=1) from None
            except Exception as error:  # one model must not keep the others from serving
                if not isinstance(error, RefusedModelError | BrokenModelError):
                    logger.exception("%s version %s: loading failed", network.name, network.version)
                metrics.MODEL_LOADS.labels(network.name, "refused").inc()
                self._changed(network, error)
                return
            model.open(self._pool, ModelObserver(network.name, network.version))
            network.take(model)
            network.last_used = perf_counter()
            self._loaded.add(network)
            metrics.MODEL_LOADS.labels(network.name, "ok").inc()
            self._changed(network, None)

    async def _build(self, network: Network) -> Model:
        """Load it, in time. Raises what `opened` does, BrokenModelError when it takes too long, and
        NotReady when the service stops meanwhile.
        """
        seconds = _patience(self._settings, network.name)
        termination = Termination()
        work = partial(opened, network.found, network.manifest, self._settings, termination)
        building = self._thread.submit("run", work)
        stop = asyncio.ensure_future(self._closing.wait())
        either: set[asyncio.Future[Any]] = {building, stop}
        try:
            await asyncio.wait(either, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if building.done():
                return building.result()
            termination.ask()
            await asyncio.wait({building}, timeout=TERMINATION_SECONDS)
        finally:
            stop.cancel()
        if not building.done():
            self._leave_thread(network, building)
        elif not building.exception():
            return building.result()
        if self._closing.is_set():
            raise NotReady("the service is stopping")
        raise BrokenModelError(
            f"it was not loaded within {seconds:g} s (ZOO_LOAD_TIMEOUT_MS): "
            "its graph may have no end"
        )

    def _leave_thread(self, network: Network, building: asyncio.Future[Model]) -> None:
        """Go on with another thread: in this one a single node computes, which nobody can end."""
        logger.error(
            "the load of %s version %s cannot be ended; its thread takes a core until it is done",
            *(network.name, network.version),
        )
        building.cancel()
        self._thread.close()
        self._thread = Pool(1, "zoo-load")

    async def _make_room(self, network: Network) -> None:
        """Unload what is idle, the least recently used first. Raises NotReady."""
        while not network.kept and not self.fits(network):
            self._check_room([network])
            idle = [loaded for loaded in self._loaded if _idle(loaded)]
            least = min(idle, key=lambda loaded: loaded.last_used)
            metrics.MODEL_EVICTIONS.labels(least.name).inc()
            await self._unload(least, "memory")

    def _check_room(self, wanted: list[Network]) -> None:
        """Raise NotReady when these do not fit even without all that is idle."""
        needed = self._bytes(wanted)
        busy = [network for network in self._loaded if not _idle(network)]
        left = self._limit - self._bytes(busy)
        if not self._limit or needed <= left or all(network.kept for network in wanted):
            return
        kept = self._bytes(network for network in busy if network.kept)
        passing = needed <= self._limit - kept
        names = ", ".join(network.name for network in wanted)
        for network in wanted:
            metrics.MODEL_LOADS.labels(network.name, "no_room").inc()
        raise NotReady(
            f"loading {names} takes about {needed / MEGABYTE:.0f} MB, and beside the default "
            f"model and those in use {max(0, left) / MEGABYTE:.0f} MB are left of "
            f"ZOO_MODEL_MEMORY_MB={self._limit // MEGABYTE}; "
            + ("try again when those are idle, or raise it" if passing else "raise it"),
            retry_after=1 if passing else None,
        )

    async def _unload(self, network: Network, why: str) -> None:
        model = network.unload()
        self._loaded.discard(network)
        self._changed(network, None)
        logger.info("unloading %s version %s: %s", network.name, network.version, why)
        await model.close()

        def release() -> None:
            model.release()
            give_back()

        await self._unloading.submit("run", release)

    def _bytes(self, networks: Iterable[Network]) -> int:
        return sum(network.estimated_bytes for network in networks)


class Used:
    """What `Catalog.use` gives; costs next to nothing where the networks are loaded."""

    __slots__ = ("_answerer", "_deadline", "_loader", "_permit")

    def __init__(
        self, loader: Loader, answerer: Network | Ensemble, deadline: float, permit: Permit | None
    ) -> None:
        self._loader = loader
        self._permit = permit
        self._answerer = answerer
        self._deadline = deadline

    async def __aenter__(self) -> None:
        hold(self._answerer.networks)
        if not self._answerer.ready:
            try:
                await self._load()
            except BaseException:
                let_go(self._answerer.networks)
                raise

    async def __aexit__(self, *failure: object) -> None:
        let_go(self._answerer.networks)

    async def _load(self) -> None:
        if self._permit is not None:
            self._permit.park()
        await self._loader.load(self._answerer, self._deadline)
        if self._permit is not None:
            self._permit.resume()


def _missing(wanted: Network | Ensemble) -> list[Network]:
    return [network for network in wanted.networks if not network.ready]


def _words(error: OSError | MemoryError) -> str:
    return (isinstance(error, OSError) and error.strerror) or "memory is short"


def _patience(settings: Settings, model: str) -> float:
    """Seconds in which this model must be loaded."""
    if settings.load_timeout_ms:
        return settings.load_timeout_ms / 1e3
    named = settings.of_model(model).providers
    there = "TensorrtExecutionProvider" in onnxruntime.get_available_providers()
    builds = "tensorrt" in named if named else there
    return ENGINE_SECONDS if builds else LOAD_SECONDS


def _idle(network: Network) -> bool:
    return not network.kept and network.uses == 0
