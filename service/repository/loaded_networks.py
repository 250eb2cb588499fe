"""Keeps account of the networks in memory: how many use each, which may go, what still fits."""

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
    """The loaded networks of a worker. Lives in one event loop.

    Only these methods make a network ready or unloaded.
    """

    def __init__(self, limit_mb: int) -> None:
        """``limit_mb``: how many megabytes all may take together, by estimate; 0: no limit."""
        self._limit = limit_mb * MEGABYTE
        self._last_used: dict[Network, float] = {}
        """When the last use of each network in memory ended, by ``time.perf_counter``."""
        self._uses: dict[Network, int] = {}
        """How many requests and loads hold a network, in memory or not; never 0."""
        self._unused: dict[Network, asyncio.Future[None]] = {}
        self._kept: set[Network] = set()

    def __iter__(self) -> Iterator[Network]:
        return iter(list(self._last_used))

    def add(self, network: Network, model: Model) -> None:
        """Make a network ready: ``model`` computes for it from now on."""
        network.take(model)
        self._last_used[network] = perf_counter()

    def remove(self, network: Network) -> Model:
        """Make a network unloaded. The caller closes and releases the model that is returned."""
        del self._last_used[network]
        return network.unload()

    def keep(self, networks: set[Network]) -> None:
        """Never unload these for want of room; replaces the set of the last call."""
        self._kept = networks

    def hold(self, networks: Iterable[Network]) -> None:
        """Count a use of each network, which keeps it from being unloaded until `let_go`."""
        for network in networks:
            self._uses[network] = self._uses.get(network, 0) + 1

    def let_go(self, networks: Iterable[Network]) -> None:
        """End one use of each network that `hold` began."""
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
        """Hold these networks while the context lasts."""
        self.hold(networks)
        try:
            yield
        finally:
            self.let_go(networks)

    def unused(self, network: Network) -> asyncio.Future[None] | None:
        """Return a future that is done once nobody uses the network; None where nobody does now."""
        if network not in self._uses:
            return None
        return self._unused.setdefault(network, asyncio.get_running_loop().create_future())

    def fits(self, answerer: Answerer) -> bool:
        """Whether a version may be loaded while all others stay loaded.

        The networks of `keep` always may.
        """
        missing = _bytes(network for network in answerer.networks if not network.ready)
        room = not self._limit or missing + _bytes(self._last_used) <= self._limit
        return room or self._kept.issuperset(answerer.networks)

    def least_recently_used(self) -> Network:
        """Return that of the networks that may be unloaded. Raises ValueError where none may."""
        return min(filter(self._idle, self._last_used), key=self._last_used.__getitem__)

    def check_room(self, networks: list[Network]) -> None:
        """Raise NotReady where these would not fit even if all idle networks were unloaded."""
        needed = _bytes(networks)
        busy = [network for network in self._last_used if not self._idle(network)]
        left = self._limit - _bytes(busy)
        if not self._limit or needed <= left or self._kept.issuperset(networks):
            return
        passing = needed <= self._limit - _bytes(self._kept.intersection(busy))
        names = ", ".join(network.name for network in networks)
        for network in networks:
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
