"""Loads networks when they are needed; unloads those that are idle or not served any more."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Container
from functools import partial
from time import perf_counter
from typing import Any

import onnxruntime

from service.config.settings import Settings
from service.engine.admission import Permit
from service.engine.allocator import give_back
from service.engine.model import Model
from service.engine.pool import Pool
from service.engine.session import BrokenModelError
from service.engine.termination import Termination
from service.errors import DeadlineExceeded, NotReady
from service.manifest import RefusedModelError
from service.repository.ensemble import Answerer
from service.repository.loaded_networks import LoadedNetworks
from service.repository.network import Network, opened
from service.telemetry import metrics
from service.telemetry.model_metrics import ModelObserver

logger = logging.getLogger("zoo.loader")

TERMINATION_SECONDS = 2.0
"""How long a load that was told to end may still take before its thread is abandoned."""
LOAD_SECONDS, ENGINE_SECONDS = 300.0, 3600.0
"""How long a load may take where ZOO_LOAD_TIMEOUT_MS is 0: usually, and where TensorRT builds
engines."""


class Superseded(Exception):
    """Loading showed that this version must not be served; another one may answer instead."""


class Loader:
    """Loads and unloads the networks of a worker. Lives in one event loop.

    One network is loaded at a time, in a thread of its own, so that the pool's threads go on with
    requests for loaded networks. A load that takes too long is told to end, as is one that runs
    when the service stops; a thread that does not end is abandoned.
    """

    def __init__(
        self,
        settings: Settings,
        pool: Pool,
        changed: Callable[[Network, Exception | None], None],
        found: Callable[[Answerer], bool],
    ) -> None:
        """Prepare to load networks that compute in ``pool``. Call this in the event loop.

        ``changed`` is called with each network that was loaded or unloaded, and None; or with a
        network that must be refused, and the error. ``found`` returns whether requests still find
        a version: false where it was refused or another has taken its place.
        """
        self._settings = settings
        self._pool = pool
        self._changed = changed
        self._found = found
        self.loaded = LoadedNetworks(settings.model_memory_mb)
        self._loading: dict[Answerer, asyncio.Task[NotReady | None]] = {}
        self._turn = asyncio.Lock()
        self.rollout = asyncio.Lock()
        """Held while a successor is loaded beside what answers, which must stay loaded meanwhile.
        Two such loads at once could block each other where memory is short."""
        self._thread = Pool(1, "zoo-load")
        self._unloading = Pool(1, "zoo-unload")
        """A thread of its own: memory is given back while a load, which may take long, goes on."""
        self._closing: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._leaving: dict[Network, asyncio.Task[None]] = {}

    async def load(
        self, answerer: Answerer, deadline: float = math.inf, permit: Permit | None = None
    ) -> None:
        """Wait until a version is ready. All callers wait for the same load.

        ``permit`` is parked meanwhile: its crops do not count as work of the engine. The load
        goes on when the caller is cancelled or its ``deadline`` (``time.perf_counter``) passes.
        Raises DeadlineExceeded at the deadline, NotReady where it cannot be loaded now, and
        Superseded where requests do not find the version any more.
        """
        if answerer.ready:
            return
        if permit is not None:
            permit.park()
        if answerer not in self._loading:
            answerer.loading = True
            self._loading[answerer] = asyncio.ensure_future(self._load(answerer))
        task = self._loading[answerer]
        patience = None if deadline == math.inf else max(0.0, deadline - perf_counter())
        await asyncio.wait({task}, timeout=patience)
        if not task.done():
            raise DeadlineExceeded(
                f"the deadline passed while model {answerer.name!r} was being loaded; that goes on"
            )
        if not self._found(answerer):
            raise Superseded
        if (failure := task.result()) is not None:
            raise NotReady(failure.detail, retry_after=failure.retry_after)
        if permit is not None:
            permit.resume()

    async def close(self) -> None:
        """End the running load, begin no other, and finish the work of all loaded networks."""
        self._closing.set_result(None)
        if tasks := [*self._loading.values(), *self._leaving.values()]:
            await asyncio.wait(tasks)
        for network in self.loaded:
            await network.model.close()
        self._thread.close()
        self._unloading.close()

    def sweep(self, needed: Callable[[], Container[Network]]) -> None:
        """Begin to unload networks that are not ``needed``, each once its requests are answered."""
        now = needed()
        for network in self.loaded:
            if network not in now and network not in self._leaving:
                self._leaving[network] = asyncio.ensure_future(self._leave(network, needed))

    async def swept(self, name: str) -> None:
        """Wait until the networks of this model that `sweep` unloads are unloaded."""
        leaving = [task for network, task in self._leaving.items() if network.name == name]
        if leaving:
            await asyncio.wait(leaving)

    async def _leave(self, network: Network, needed: Callable[[], Container[Network]]) -> None:
        try:
            while (unused := self.loaded.unused(network)) and not self._closing.done():
                await asyncio.wait({unused, self._closing}, return_when=asyncio.FIRST_COMPLETED)
            if not self._closing.done() and network.ready and network not in needed():
                await self._unload(network, "it is not served any more")
        finally:
            del self._leaving[network]

    async def _load(self, answerer: Answerer) -> NotReady | None:
        """Load a version. Returns, and does not raise, the error for the requests that wait.

        There may be many of them, or none.
        """
        try:
            if answerer.networks[0] is answerer:
                await self._load_network(answerer.networks[0])
            else:
                with self.loaded.held(answerer.networks):
                    self.loaded.check_room([one for one in answerer.networks if not one.ready])
                    for member in answerer.networks:
                        await self.load(member)
        except NotReady as failure:
            return failure
        except Superseded:
            pass
        finally:
            answerer.loading = False
            del self._loading[answerer]
        return None

    async def _load_network(self, network: Network) -> None:
        async with self._turn:
            if self._closing.done():
                raise NotReady("the service is stopping")
            if not self._found(network):
                return
            await self._make_room(network)
            try:
                model = await self._build(network)
            except NotReady:
                raise
            except (OSError, MemoryError) as error:  # it may pass: the next request tries again
                logger.exception("%s version %s cannot be loaded", network.name, network.version)
                metrics.MODEL_LOADS.labels(network.name, "failed").inc()
                reason = f"model {network.name!r} cannot be loaded now: {_reason(error)}"
                raise NotReady(reason, retry_after=1) from None
            except Exception as error:  # one model must not keep the others from serving
                if not isinstance(error, RefusedModelError | BrokenModelError):
                    logger.exception("%s version %s: loading failed", network.name, network.version)
                metrics.MODEL_LOADS.labels(network.name, "refused").inc()
                self._changed(network, error)
                return
            model.open(self._pool, ModelObserver(network.name, network.version))
            self.loaded.add(network, model)
            metrics.MODEL_LOADS.labels(network.name, "ok").inc()
            self._changed(network, None)

    async def _build(self, network: Network) -> Model:
        """Open a network in the loading thread, within its time limit.

        Raises what `opened` does, BrokenModelError when it takes too long, and NotReady when the
        service stops meanwhile.
        """
        seconds = _patience(self._settings, network.name)
        termination = Termination()
        work = partial(opened, network.found, network.manifest, self._settings, termination)
        building = self._thread.submit("run", work)
        ends: set[asyncio.Future[Any]] = {building, self._closing}
        await asyncio.wait(ends, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if building.done():
            return building.result()
        termination.ask()
        await asyncio.wait({building}, timeout=TERMINATION_SECONDS)
        if not building.done():
            self._leave_thread(network, building)
        elif not building.exception():
            return building.result()
        if self._closing.done():
            raise NotReady("the service is stopping")
        raise BrokenModelError(
            f"it was not loaded within {seconds:g} s (ZOO_LOAD_TIMEOUT_MS): "
            "its graph may have no end"
        )

    def _leave_thread(self, network: Network, building: asyncio.Future[Model]) -> None:
        """Load in a new thread from now on: in the old one a node of a graph runs, without end."""
        logger.error(
            "the load of %s version %s cannot be ended; its thread takes a core until it is done",
            *(network.name, network.version),
        )
        building.cancel()
        self._thread.close()
        self._thread = Pool(1, "zoo-load")

    async def _make_room(self, network: Network) -> None:
        """Unload idle networks, the least recently used first, until this one fits.

        Raises NotReady where that does not suffice.
        """
        while not self.loaded.fits(network):
            self.loaded.check_room([network])
            least = self.loaded.least_recently_used()
            metrics.MODEL_EVICTIONS.labels(least.name).inc()
            await self._unload(least, "memory")

    async def _unload(self, network: Network, why: str) -> None:
        model = self.loaded.remove(network)
        self._changed(network, None)
        logger.info("unloading %s version %s: %s", network.name, network.version, why)
        await model.close()

        def release() -> None:
            model.release()
            give_back()

        await self._unloading.submit("run", release)


class Used:
    """The context manager that `Catalog.use` returns: keeps the networks of a version loaded."""

    __slots__ = ("_answerer", "_deadline", "_loader", "_permit")

    def __init__(
        self, loader: Loader, answerer: Answerer, deadline: float, permit: Permit | None
    ) -> None:
        self._loader = loader
        self._answerer = answerer
        self._deadline = deadline
        self._permit = permit

    async def __aenter__(self) -> None:
        self._loader.loaded.hold(self._answerer.networks)
        try:
            await self._loader.load(self._answerer, self._deadline, self._permit)
        except BaseException:
            self._loader.loaded.let_go(self._answerer.networks)
            raise

    async def __aexit__(self, *failure: object) -> None:
        self._loader.loaded.let_go(self._answerer.networks)


def _reason(error: OSError | MemoryError) -> str:
    return (isinstance(error, OSError) and error.strerror) or "memory is short"


def _patience(settings: Settings, model: str) -> float:
    """How many seconds the load of this model may take."""
    if settings.load_timeout_ms:
        return settings.load_timeout_ms / 1e3
    named = settings.of_model(model).providers
    available = "TensorrtExecutionProvider" in onnxruntime.get_available_providers()
    builds = "tensorrt" in named if named else available
    return ENGINE_SECONDS if builds else LOAD_SECONDS
