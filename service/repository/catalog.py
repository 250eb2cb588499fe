"""Knows all models of a worker: loaded, loaded on first use, or refused with a reason."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from service.config.settings import Settings
from service.config.version_policy import Policy, parse
from service.engine.admission import Permit
from service.engine.pool import Pool
from service.errors import NotReady, UnknownModel
from service.manifest import EnsembleManifest, Manifest, RefusedModelError
from service.repository.ensemble import Answerer, Ensemble
from service.repository.index import IndexEntry, entries, failure
from service.repository.loader import Loader, Used
from service.repository.network import Network
from service.repository.rollout import Ahead, roll_out
from service.repository.servable import Servable
from service.repository.version_set import Entry, VersionSet
from service.repository.watcher import Changes
from service.telemetry.model_metrics import ModelMetrics

logger = logging.getLogger("zoo.catalog")


class Catalog:
    """The models of the repository, each a version set. Lives in one event loop."""

    def __init__(
        self, settings: Settings, model_metrics: ModelMetrics, changed: Callable[[], None]
    ) -> None:
        """``changed`` is called after a version was loaded, unloaded, refused or replaced."""
        self._settings = settings
        self._metrics = model_metrics
        self._tell = changed
        self._version_sets: dict[str, VersionSet] = {}
        self._wishes: dict[str, tuple[bool, Policy | None]] = {}
        """What operators asked for, by model, in the repository or not: whether it is unloaded,
        and its version policy."""

    def __contains__(self, name: str) -> bool:
        return name in self._version_sets

    def open(self, pool: Pool) -> None:
        """Prepare to load networks, which compute in ``pool``. Call this in the event loop."""
        self._loader = Loader(self._settings, pool, self._changed, self._found)

    async def close(self) -> None:
        """End a running load, and finish the work that every network has accepted."""
        await self._loader.close()

    def use(self, answerer: Answerer, deadline: float, permit: Permit | None = None) -> Used:
        """Return an async context manager that loads a version and keeps it loaded meanwhile.

        Entering it raises what `Loader.load` does, and costs little where the version is loaded.
        """
        return Used(self._loader, answerer, deadline, permit)

    def names(self) -> list[str]:
        """Return the names of all models, sorted."""
        return sorted(self._version_sets)

    def models(self) -> list[Servable]:
        """Return every version that is served or refused, by name and version."""
        return [model for name in self.names() for model in self._version_sets[name].listed()]

    def networks(self) -> set[Network]:
        """Return every network that is served, alone or in an ensemble."""
        served = [one for each in self._version_sets.values() for one in each.served.values()]
        return {network for one in served for network in one.networks}

    def versions(self, name: str) -> list[Servable]:
        """Return every version of one model, the newest last. Raises UnknownModel."""
        return self._version_set(name).listed()

    def index(self) -> list[IndexEntry]:
        """Return every version on disk or in memory, by name and version."""
        version_sets = [self._version_sets[name] for name in self.names()]
        return [entry for version_set in version_sets for entry in entries(version_set)]

    def refused(self, name: str) -> list[str]:
        """Return the refused versions of a model; none where there is no such model."""
        return list(self._version_sets[name].refused) if name in self._version_sets else []

    def has_ready(self, name: str) -> bool:
        """Whether some version of this model is loaded."""
        version_set = self._version_sets.get(name)
        return version_set is not None and any(one.ready for one in version_set.served.values())

    def model(self, name: str, version: str | None = None) -> Answerer:
        """Return the version that answers, or the one that is named, loaded or not.

        Raises UnknownModel when it is not in the repository, NotReady when it was refused or
        unloaded by its operator.
        """
        return self._version_set(name).model(version)

    def needed_by_default(self, name: str) -> bool:
        """Whether the default model is this one, or has it as a member."""
        members = (network.name for network in self._default_networks())
        return name in (self._settings.default_model, *members)

    def follow(self, changes: Changes) -> set[str]:
        """Apply what a look at the repository found, and return the names of the models concerned.

        What answers goes on until its successor is loaded, which `roll_out` does.
        """
        for found, manifest in changes.arrived:
            self._version_set_of(found.name).put(Entry(found, manifest))
        for found, reason in changes.broken:
            self._version_set_of(found.name).refuse(found.version, reason)
        for found in changes.gone:
            self._version_set_of(found.name).remove(found.version)
        everything = [*changes.arrived, *changes.broken]
        touched = {found.name for found, _ in everything} | {found.name for found in changes.gone}
        if touched:
            self._arrange(touched)
        return touched

    def wish(self, name: str, *, closed: bool, policy: Policy | None) -> None:
        """Apply what an operator asked for: a model unloaded, or served by a version policy."""
        self._wishes[name] = (closed, policy)
        if name in self._version_sets:
            self._apply_wish(self._version_sets[name])
            self._arrange([name])

    async def roll_out(self, name: str, *, by_operator: bool = False) -> None:
        """Load the successor of what answers, and the versions to be loaded before first use.

        ``by_operator``: an operator wants it loaded, so idle models may be unloaded for it.
        """
        if name not in self._version_sets:
            return
        chosen = self._wishes.get(name, (False, None))[1] is not None
        ahead: Ahead = "nothing"
        if self._settings.load_all or (by_operator and chosen):
            ahead = "all"
        elif by_operator or name in (self._settings.default_model, *self._settings.loaded_names):
            ahead = "front"
        await roll_out(self._version_sets[name], self._loader, ahead, by_operator=by_operator)

    def unfinished(self) -> list[str]:
        """Return the models that have a version which waits to be loaded in another's place."""
        return [name for name, each in self._version_sets.items() if any(each.beside())]

    async def emptied(self, name: str) -> None:
        """Wait until the networks of a model that are not served any more are unloaded."""
        await self._loader.swept(name)

    def check(self, name: str, policy: Policy) -> None:
        """Raise NotReady where a policy names a missing version or chooses only refused ones."""
        version_set = self._version_set(name)
        present = {*version_set.known, *version_set.refused}
        if missing := [version for version in policy.named or () if version not in present]:
            raise NotReady(f"model {name!r} has no version {', '.join(missing)}")
        chosen = policy.choose(present)
        if all(version in version_set.refused for version in chosen):
            newest = version_set.refused[chosen[-1]].reason if chosen else "there is none"
            raise NotReady(f"no version of model {name!r} that {policy} chooses: {newest}")

    def failure(self, name: str) -> str | None:
        """Return why the newest version that the policy chooses does not answer, or None."""
        return failure(self._version_set(name))

    def _version_set(self, name: str) -> VersionSet:
        if name not in self._version_sets:
            known = ", ".join(self.names()) or "none"
            raise UnknownModel(f"there is no model {name!r}; there are: {known}")
        return self._version_sets[name]

    def _version_set_of(self, name: str) -> VersionSet:
        if name not in self._version_sets:
            kept = name == self._settings.default_model
            self._version_sets[name] = VersionSet(name, Policy(), self._make, kept=kept)
            self._apply_wish(self._version_sets[name])
        return self._version_sets[name]

    def _apply_wish(self, version_set: VersionSet) -> None:
        closed, policy = self._wishes.get(version_set.name, (False, None))
        version_set.closed = closed
        own = self._settings.of_model(version_set.name).versions
        version_set.policy = policy or parse(str(own))

    def _make(self, entry: Entry) -> Answerer:
        """Return the network or ensemble of a version, not loaded. Raises RefusedModelError."""
        if entry.manifest.kind == "network":
            return Network(entry.found, entry.manifest, self._settings.of_model(entry.found.name))
        ensemble = Ensemble(entry.found, entry.manifest, self._network)
        ensemble.compare_labels()
        return ensemble

    def _network(self, name: str, version: str | None) -> Network:
        version_set = self._version_set(name)
        if version_set.closed or not version_set.has_ensembles:
            model = version_set.model(version)
            if model.manifest.kind == "network":
                return model.single_network
        raise NotReady(f"model {name!r} is itself an ensemble")

    def _found(self, answerer: Answerer) -> bool:
        """Whether requests still find a version: not refused, not replaced."""
        version_set = self._version_sets.get(answerer.name)
        return version_set is not None and answerer in version_set.answerers()

    def _changed(self, network: Network, error: Exception | None) -> None:
        """Apply that a network was loaded or unloaded, or refuse it where it is broken.

        The ensembles that have it as a member follow.
        """
        touched = {network.name}
        if error is not None and network.name in self._version_sets:
            self._version_sets[network.name].refuse_answerer(network, str(error))
        for version_set in self._version_sets.values():
            for answerer in version_set.answerers():
                if network in answerer.networks:
                    touched.add(version_set.name)
                    try:
                        answerer.compare_labels()
                    except RefusedModelError as unlike:
                        version_set.refuse_answerer(answerer, str(unlike))
        self._arrange(touched)

    def _arrange(self, names: Iterable[str]) -> None:
        """Arrange these models and the ensembles that need them; unload what is not needed."""
        version_sets = [self._version_sets[name] for name in names if name in self._version_sets]
        changed = set()
        for version_set in sorted(version_sets, key=lambda one: one.has_ensembles):
            if version_set.arrange():
                changed.add(version_set.name)
        for version_set in self._version_sets.values():
            self._follow_members(version_set, changed)
        for gone in [version_set for version_set in version_sets if not version_set.versions()]:
            del self._version_sets[gone.name]
        self._loader.loaded.keep(set(self._default_networks()))
        self._loader.sweep(self._needed)
        self._report()
        self._tell()

    def _report(self) -> None:
        """Set the metrics of every version."""
        models = self.models()
        self._metrics.only({(one.name, one.version) for one in models})
        for one in models:
            size = one.estimated_bytes if isinstance(one, Network) else 0
            self._metrics.version(one.name, one.version, one.state, one.running, size)

    def _default_networks(self) -> list[Network]:
        """Return the networks by which the default model answers."""
        default = self._version_sets.get(self._settings.default_model)
        return default.front.networks if default and default.front else []

    def _follow_members(self, version_set: VersionSet, changed: set[str]) -> None:
        """Make each ensemble again that has one of the ``changed`` models as a member."""
        if any(_members(entry.manifest) & changed for entry in version_set.waiting.values()):
            version_set.reconsider()
            version_set.arrange()
        for old in version_set.answerers():
            if not _members(old.manifest) & changed:
                continue
            try:
                new = self._make(Entry(old.found, old.manifest))
            except RefusedModelError as error:
                if old.ready and version_set.name == self._settings.default_model:
                    logger.error("%s goes on as it was: %s", version_set.name, error)
                else:
                    version_set.refuse_answerer(old, str(error))
            else:
                if new.networks != old.networks:
                    version_set.replace(old, new)
            version_set.arrange()

    def _needed(self) -> set[Network]:
        """Return the networks that a request can still reach."""
        return {
            network
            for version_set in self._version_sets.values()
            if not version_set.closed
            for answerer in version_set.answerers()
            for network in answerer.networks
        }


def _members(manifest: Manifest | EnsembleManifest) -> set[str]:
    return {one.model for one in manifest.members} if manifest.kind == "ensemble" else set()
