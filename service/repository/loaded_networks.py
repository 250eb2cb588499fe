"""The networks in memory: who uses them, which may be unloaded, and whether there is room."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from time import perf_counter

from service.config.settings import MEGABYTE
from service.engine.model import Model
from service.errors import NotReady
from service.repository.ensemble import Answerer
from service.repository.network import Network
from service.telemetry import metrics


class LoadedNetworks:
    """Those of a worker, each changed by these methods alone. Lives in one event loop."""

    def __init__(self, limit_mb: int) -> None:
        """``limit_mb``: what all may take, in megabytes by estimate; 0: there is no limit."""
        self._limit = limit_mb * MEGABYTE
        self._last_used: dict[Network, float] = {}
        """Of each network in memory, by ``time.perf_counter``."""
        self._uses: dict[Network, int] = {}
        """Requests and loads that need a network, in memory or not; 0 is left out."""
        self._unused: dict[Network, asyncio.Future[None]] = {}
        self._kept: set[Network] = set()

    def __iter__(self) -> Iterator[Network]:
        return iter(list(self._last_used))

    def add(self, network: Network, model: Model) -> None:
        """It answers by this model from now on."""
        network.take(model)
        self._last_used[network] = perf_counter()

    def remove(self, network: Network) -> Model:
        """It answers no more; whoever takes the model finishes its work and releases it."""
        del self._last_used[network]
        return network.unload()

    def keep(self, networks: set[Network]) -> None:
        """These, and no others, are never unloaded while they are needed."""
        self._kept = networks

    def hold(self, networks: Iterable[Network]) -> None:
        """Keep these from being unloaded, until `let_go`."""
        for network in networks:
            self._uses[network] = self._uses.get(network, 0) + 1

    def let_go(self, networks: Iterable[Network]) -> None:
        """End what `hold` began."""
        now = perf_counter()
        for network in networks:
            if network in self._last_used:
                self._last_used[network] = now
            self._uses[network] -= 1
            if not self._uses[network]:
                del self._uses[network]
                if network in self._unused:
                    self._unused.pop(network).set_result(None)

    @contextmanager
    def held(self, networks: Iterable[Network]) -> Iterator[None]:
        """Hold these meanwhile."""
        self.hold(networks)
        try:
            yield
        finally:
            self.let_go(networks)

    def unused(self, network: Network) -> asyncio.Future[None] | None:
        """Done once nobody uses it; None where nobody does."""
        if network not in self._uses:
            return None
        return self._unused.setdefault(network, asyncio.get_running_loop().create_future())

    def fits(self, wanted: Answerer) -> bool:
        """Whether it may be loaded while all others stay: there is room, or it is to be kept."""
        missing = _bytes(network for network in wanted.networks if not network.ready)
        room = not self._limit or missing + _bytes(self._last_used) <= self._limit
        return room or self._kept.issuperset(wanted.networks)

    def least_recently_used(self) -> Network:
        """Of those that may be unloaded. Raises ValueError where there is none."""
        return min(filter(self._idle, self._last_used), key=self._last_used.__getitem__)

    def check_room(self, wanted: list[Network]) -> None:
        """Raise NotReady when these do not fit even without all that is idle."""
        needed = _bytes(wanted)
        busy = [network for network in self._last_used if not self._idle(network)]
        left = self._limit - _bytes(busy)
        if not self._limit or needed <= left or self._kept.issuperset(wanted):
            return
        passing = needed <= self._limit - _bytes(self._kept.intersection(busy))
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

    def _idle(self, network: Network) -> bool:
        return network not in self._kept and network not in self._uses


def _bytes(networks: Iterable[Network]) -> int:
    return sum(network.estimated_bytes for network in networks)
