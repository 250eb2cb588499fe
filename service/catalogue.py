"""The models that a worker knows: loaded, loaded on first use, or refused with a reason."""

from __future__ import annotations

import logging
from collections.abc import Callable, Container
from dataclasses import dataclass

from service import metrics, repository
from service.engine.admission import Permit
from service.engine.pool import Pool
from service.ensemble import Ensemble
from service.errors import NotReady, UnknownModel
from service.loader import Loader, Superseded, hold, let_go
from service.manifest import EnsembleManifest
from service.network import Network
from service.repository import RefusedModelError, Version
from service.settings import Settings

logger = logging.getLogger("zoo.catalogue")

Answerer = Network | Ensemble
"""What can answer a request."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A version on disk that is not served, and why."""

    name: str
    version: str
    reason: str


class Used:
    """What `Catalogue.use` gives; costs next to nothing where the networks are loaded."""

    __slots__ = ("_answerer", "_deadline", "_loader", "_permit")

    def __init__(
        self, loader: Loader, answerer: Answerer, deadline: float, permit: Permit | None
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


class Catalogue:
    """Every version of the repository, by model and version, the newest last."""

    def __init__(self, settings: Settings, changed: Callable[[], None] = lambda: None) -> None:
        """``changed`` is called when a version was loaded, unloaded or refused."""
        self._settings = settings
        self._tell = changed
        self._versions: dict[str, dict[str, Answerer | Refusal]] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._versions

    async def start(self, pool: Pool, only: Container[str] | None = None) -> None:
        """Read every manifest, or those of the models in ``only``; load what the settings say."""
        self._read(only)
        self._loader = Loader(self._settings, pool, self._changed)
        await self._load_newest(self._settings.default_model, keep=True)
        for name in self._settings.loaded_names:
            await self._load_newest(name)
        if self._settings.load_all:
            for network in self.models():
                if isinstance(network, Network):
                    await self._load_at_start(network)

    async def close(self) -> None:
        """Finish what every network has accepted."""
        await self._loader.close()

    def use(self, answerer: Answerer, deadline: float, permit: Permit | None = None) -> Used:
        """``async with`` this: load what answers unless it is, and keep it loaded meanwhile.

        ``permit`` is parked during the load, so that nobody is told of an engine that is busy.

        Entering raises DeadlineExceeded when that takes until ``deadline``
        (``time.perf_counter``), NotReady when there is no room, Superseded when this version
        turned out to be broken.
        """
        return Used(self._loader, answerer, deadline, permit)

    def models(self) -> list[Answerer | Refusal]:
        """Every version in the repository, by name and version."""
        return [model for versions in self._versions.values() for model in versions.values()]

    def versions(self, name: str) -> list[Answerer | Refusal]:
        """Every version of one model, the newest last. Raises UnknownModel."""
        if name not in self._versions:
            there = ", ".join(self._versions) or "none"
            raise UnknownModel(f"there is no model {name!r}; there are: {there}")
        return list(self._versions[name].values())

    def has_ready(self, name: str) -> bool:
        """Whether some version of this model is loaded."""
        versions = self._versions.get(name, {}).values()
        return any(not isinstance(model, Refusal) and model.ready for model in versions)

    def model(self, name: str, version: str | None = None) -> Answerer:
        """The version that answers, loaded or not: the newest that is served, or the named one.

        Raises UnknownModel when it is not in the repository, NotReady when it was refused.
        """
        versions = self.versions(name)
        if version is not None:
            versions = [model for model in versions if model.version == version]
            if not versions:
                there = ", ".join(self._versions[name])
                raise UnknownModel(f"model {name!r} has no version {version!r}; it has: {there}")
        for candidate in reversed(versions):
            if not isinstance(candidate, Refusal):
                return candidate
        refusal = versions[-1]
        assert isinstance(refusal, Refusal)  # noqa: S101
        raise NotReady(f"model {name!r} version {refusal.version} was refused: {refusal.reason}")

    def _read(self, only: Container[str] | None) -> None:
        ensembles: list[tuple[Version, EnsembleManifest]] = []
        for found in repository.find(self._settings.models):
            if only is not None and found.name not in only:
                continue
            waiting = Refusal(found.name, found.version, "it is itself an ensemble")
            self._versions.setdefault(found.name, {})[found.version] = waiting
            try:
                manifest = repository.read(found)
            except RefusedModelError as error:
                self._refuse(found, error)
                continue
            if isinstance(manifest, EnsembleManifest):
                ensembles.append((found, manifest))
            else:
                self._know(Network(found, manifest, self._settings.of_model(found.name)))
        for found, ensemble in ensembles:
            self._assemble(found, ensemble)

    async def _load_newest(self, name: str, *, keep: bool = False) -> None:
        """Load the version that answers, which is an older one where the newest is broken."""
        while self._is_served(name):
            newest = self.model(name)
            for network in newest.networks:
                network.kept = network.kept or keep
            if await self._load_at_start(newest):
                return

    async def _load_at_start(self, answerer: Answerer) -> bool:
        """Load it unless another would have to go; whether it is not broken."""
        kept = all(network.kept for network in answerer.networks)
        if not kept and not self._loader.fits(answerer):
            logger.info("%s waits for its first use: ZOO_MODEL_MEMORY_MB is full", answerer.name)
            return True
        try:
            await self._loader.load(answerer)
        except NotReady as error:
            logger.warning("%s is not loaded: %s", answerer.name, error.detail)
        except Superseded:
            return False
        return True

    def _is_served(self, name: str) -> bool:
        """Whether some version of this model is not refused."""
        return any(not isinstance(m, Refusal) for m in self._versions.get(name, {}).values())

    def _know(self, model: Answerer) -> None:
        self._versions[model.name][model.version] = model
        metrics.MODEL_READY.labels(model.name, model.version).set(int(model.ready))
        self._tell()

    def _refuse(self, found: Version | Answerer, error: Exception) -> None:
        logger.error("refused %s version %s: %s", found.name, found.version, error)
        refusal = Refusal(found.name, found.version, str(error))
        self._versions[found.name][found.version] = refusal
        metrics.MODEL_READY.labels(found.name, found.version).set(0)
        self._tell()

    def _assemble(self, found: Version | Ensemble, manifest: EnsembleManifest) -> None:
        """Put an ensemble together from what is served now, or refuse it."""
        try:
            ensemble = Ensemble(manifest, self._network)
            ensemble.compare_labels()
            self._know(ensemble)
        except RefusedModelError as error:
            self._refuse(found, error)

    def _changed(self, network: Network, error: Exception | None) -> None:
        """A network was loaded or unloaded, or is broken: so are the ensembles that need it."""
        labels = (network.name, network.version)
        metrics.MODEL_BYTES.labels(*labels).set(network.estimated_bytes if network.ready else 0)
        if network.ready:
            metrics.MODEL_MAX_BATCH.labels(*labels).set(network.model.max_batch)
            for provider, nodes in network.model.nodes.items():
                metrics.MODEL_NODES.labels(*labels, provider).set(nodes)
        if error is None:
            self._know(network)
        else:
            network.superseded = True
            self._refuse(network, error)
        for ensemble in self.models():
            if isinstance(ensemble, Ensemble) and network in ensemble.networks:
                self._update(ensemble, broken=error is not None)

    def _update(self, ensemble: Ensemble, *, broken: bool) -> None:
        """Follow a change of a member; where it is broken, an older version may take its place."""
        if broken:
            ensemble.superseded = True
            self._assemble(ensemble, ensemble.manifest)
            return
        try:
            ensemble.compare_labels()
            self._know(ensemble)
        except RefusedModelError as error:
            ensemble.superseded = True
            self._refuse(ensemble, error)

    def _network(self, name: str, version: str | None) -> Network:
        model = self.model(name, version)
        if not isinstance(model, Network):
            raise NotReady(f"model {name!r} is itself an ensemble")
        return model
