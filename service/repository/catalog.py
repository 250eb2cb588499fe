"""The models that a worker knows: loaded, loaded on first use, or refused with a reason."""

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
from service.telemetry import model_metrics

logger = logging.getLogger("zoo.catalog")


class Catalog:
    """The models of the repository, each with its versions. Lives in one event loop."""

    def __init__(self, settings: Settings, changed: Callable[[], None] = lambda: None) -> None:
        """``changed`` is called when a version was loaded, unloaded, refused or replaced."""
        self._settings = settings
        self._tell = changed
        self._version_sets: dict[str, VersionSet] = {}
        self._wishes: dict[str, tuple[bool, Policy | None]] = {}
        """What operators want of models, there or not: unloaded or not, and which versions."""

    def __contains__(self, name: str) -> bool:
        return name in self._version_sets

    def open(self, pool: Pool) -> None:
        """Begin: ``pool`` computes what the networks accept."""
        self._loader = Loader(self._settings, pool, self._changed, self._found)

    async def close(self) -> None:
        """Finish what every network has accepted."""
        await self._loader.close()

    def use(self, answerer: Answerer, deadline: float, permit: Permit | None = None) -> Used:
        """``async with`` this: load what answers unless it is, and keep it loaded meanwhile.

        Entering raises what `Loader.load` does.
        """
        return Used(self._loader, answerer, deadline, permit)

    def names(self) -> list[str]:
        """The models, in order."""
        return sorted(self._version_sets)

    def models(self) -> list[Servable]:
        """Every version that is served or refused, by name and version."""
        return [model for name in self.names() for model in self._version_sets[name].listed()]

    def networks(self) -> set[Network]:
        """Every network that is served."""
        served = [one for each in self._version_sets.values() for one in each.served.values()]
        return {network for one in served for network in one.networks}

    def versions(self, name: str) -> list[Servable]:
        """Every version of one model, the newest last. Raises UnknownModel."""
        return self._version_set(name).listed()

    def index(self) -> list[IndexEntry]:
        """Every version on disk or in memory, by name and version."""
        version_sets = [self._version_sets[name] for name in self.names()]
        return [entry for version_set in version_sets for entry in entries(version_set)]

    def refused(self, name: str) -> list[str]:
        """The versions of a model, there or not, that are refused."""
        return list(self._version_sets[name].refused) if name in self._version_sets else []

    def has_ready(self, name: str) -> bool:
        """Whether some version of this model is loaded."""
        version_set = self._version_sets.get(name)
        return version_set is not None and any(one.ready for one in version_set.served.values())

    def model(self, name: str, version: str | None = None) -> Answerer:
        """The version that answers, loaded or not: the newest that is served, or the named one.

        Raises UnknownModel when it is not in the repository, NotReady when it was refused or
        unloaded by its operator.
        """
        return self._version_set(name).model(version)

    def needed_by_default(self, name: str) -> bool:
        """Whether the default model is this one, or has it as a member."""
        members = (network.name for network in self._default_networks())
        return name in (self._settings.default_model, *members)

    def follow(self, changes: Changes) -> set[str]:
        """Take over what a look at the repository found; the models that it touches.

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
        """An operator unloads a model or wants it; ``policy``: of these versions."""
        self._wishes[name] = (closed, policy)
        if name in self._version_sets:
            self._heed(self._version_sets[name])
            self._arrange([name])

    async def roll_out(self, name: str, *, asked: bool = False) -> None:
        """Load what is to answer, beside what does, and what is loaded ahead of its use.

        ``asked``: an operator wants it loaded, so idle models may be unloaded for it.
        """
        if name not in self._version_sets:
            return
        chosen = self._wishes.get(name, (False, None))[1] is not None
        ahead: Ahead = "nothing"
        if self._settings.load_all or (asked and chosen):
            ahead = "all"
        elif asked or name in (self._settings.default_model, *self._settings.loaded_names):
            ahead = "front"
        await roll_out(self._version_sets[name], self._loader, ahead, asked=asked)

    def unfinished(self) -> list[str]:
        """Models where something is to take another's place and is not ready."""
        return [name for name, each in self._version_sets.items() if any(each.beside())]

    async def emptied(self, name: str) -> None:
        """Wait until what is not served of a model any more has finished and is unloaded."""
        await self._loader.swept(name)

    def check(self, name: str, policy: Policy) -> None:
        """Raise NotReady where a policy would choose nothing, or what is not there or refused."""
        version_set = self._version_set(name)
        there = {*version_set.known, *version_set.refused}
        if missing := [version for version in policy.named or () if version not in there]:
            raise NotReady(f"model {name!r} has no version {', '.join(missing)}")
        chosen = policy.choose(there)
        if all(version in version_set.refused for version in chosen):
            newest = version_set.refused[chosen[-1]].reason if chosen else "there is none"
            raise NotReady(f"no version of model {name!r} that {policy} chooses: {newest}")

    def failure(self, name: str) -> str | None:
        """Why the newest version that the policy names does not answer, or None where it does."""
        return failure(self._version_set(name))

    def _version_set(self, name: str) -> VersionSet:
        if name not in self._version_sets:
            there = ", ".join(self.names()) or "none"
            raise UnknownModel(f"there is no model {name!r}; there are: {there}")
        return self._version_sets[name]

    def _version_set_of(self, name: str) -> VersionSet:
        if name not in self._version_sets:
            kept = name == self._settings.default_model
            self._version_sets[name] = VersionSet(name, Policy(), self._make, kept=kept)
            self._heed(self._version_sets[name])
        return self._version_sets[name]

    def _heed(self, version_set: VersionSet) -> None:
        closed, policy = self._wishes.get(version_set.name, (False, None))
        version_set.closed = closed
        own = self._settings.of_model(version_set.name).versions
        version_set.policy = policy or parse(str(own))

    def _make(self, entry: Entry) -> Answerer:
        """What answers for a version. Raises RefusedModelError."""
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
        """Whether requests still find it: it was not refused, and none has taken its place."""
        version_set = self._version_sets.get(answerer.name)
        return version_set is not None and answerer in version_set.answerers()

    def _changed(self, network: Network, error: Exception | None) -> None:
        """A network was loaded or unloaded, or is broken: so are the ensembles that need it."""
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
        """Arrange these, then the ensembles of what has changed, and let go of the rest."""
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
        """Let the metrics follow."""
        there = self.models()
        model_metrics.only({(one.name, one.version) for one in there})
        for one in there:
            about = one.describe()
            model_metrics.version(one.name, one.version, about.state, about.running)

    def _default_networks(self) -> list[Network]:
        """Those by which the default model answers."""
        default = self._version_sets.get(self._settings.default_model)
        return default.front.networks if default and default.front else []

    def _follow_members(self, version_set: VersionSet, changed: set[str]) -> None:
        """Put ensembles together anew of which a member ``changed``."""
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
        """The networks that a request may still find."""
        return {
            network
            for version_set in self._version_sets.values()
            if not version_set.closed
            for answerer in version_set.answerers()
            for network in answerer.networks
        }


def _members(manifest: Manifest | EnsembleManifest) -> set[str]:
    return {one.model for one in manifest.members} if manifest.kind == "ensemble" else set()
