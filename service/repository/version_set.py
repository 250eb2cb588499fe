"""Decides, for one model, which of its versions are served and which one answers.

`VersionSet.arrange` applies all changes in one step of the event loop: no request sees half of
them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import NamedTuple

from service.config.version_policy import Policy
from service.errors import NotReady, UnknownModel
from service.manifest import EnsembleManifest, Manifest, RefusedModelError
from service.repository.ensemble import Answerer
from service.repository.servable import Refusal, Servable
from service.repository.versions_on_disk import Version
from service.telemetry import metrics

logger = logging.getLogger("zoo.versions")


class Entry(NamedTuple):
    """A version on disk whose manifest is valid."""

    found: Version
    manifest: Manifest | EnsembleManifest


class VersionSet:
    """The versions of one model. Lives in one event loop.

    `put`, `remove` and `refuse` note what changed on disk; `arrange` then applies it.
    """

    def __init__(
        self, name: str, policy: Policy, make: Callable[[Entry], Answerer], *, kept: bool
    ) -> None:
        """``make`` returns the network or ensemble of an entry, or raises RefusedModelError.

        ``kept``: the version that answers stays when no version on disk can take its place.
        """
        self.name = name
        self.policy = policy
        self._make = make
        self._kept = kept
        self.closed = False
        """Whether an operator unloaded it."""
        self.known: dict[str, Entry] = {}
        """Versions on disk that are not refused, whether or not the policy chooses them."""
        self.refused: dict[str, Refusal] = {}
        self.waiting: dict[str, Entry] = {}
        """Refused ensembles, which may be served once their members have changed."""
        self.served: dict[str, Answerer] = {}
        self.coming: dict[str, Answerer] = {}
        """Successors of served versions with the same number, until they are ready."""
        self.front: Answerer | None = None
        """The version that answers a request which names none."""
        self.fresh: set[Answerer] = set()
        """New ones, for which it is not yet decided whether to load them before their first use."""
        self.notes: dict[str, str] = {}
        """Why versions that could be loaded are not."""
        self._found: object = None
        """What requests found after the last `arrange`."""

    def put(self, entry: Entry) -> None:
        """Note that a version has arrived, or that its files have changed."""
        version = entry.found.version
        known, old = self.known.get(version), self.served.get(version)
        if old is not None and old.ready and old.manifest == entry.manifest:
            # the files are again those that are loaded, whatever lay there meanwhile
            self._forget(version)
            self.known[version] = Entry(old.found, old.manifest)
            if version in self.coming and self.coming[version].manifest != entry.manifest:
                del self.coming[version]
            return
        if known is None or known.manifest != entry.manifest or version in self.refused:
            self._forget(version)
            self.known[version] = entry

    def remove(self, version: str) -> None:
        """Note that a version is not on disk any more."""
        self._forget(version)
        self.coming.pop(version, None)

    def refuse(self, version: str, reason: str, *, entry: Entry | None = None) -> None:
        """Refuse what is on disk for a version. Its predecessor goes on if it is loaded.

        ``entry`` is what is refused, where its manifest could be read.
        """
        logger.error("refused %s version %s: %s", self.name, version, reason)
        self.known.pop(version, None)
        if entry is not None and entry.manifest.kind == "ensemble":
            self.waiting[version] = entry
        self.refused[version] = Refusal(self.name, version, reason)
        self.coming.pop(version, None)
        old = self.served.get(version)
        if old is None:
            return
        if old.ready:
            self.known[version] = Entry(old.found, old.manifest)
        else:
            self._drop(version)

    def refuse_answerer(self, answerer: Answerer, reason: str) -> None:
        """Refuse a version that loading showed to be broken, unless it was replaced meanwhile."""
        version = answerer.version
        if answerer in (self.served.get(version), self.coming.get(version)):
            if self.served.get(version) is answerer:
                self._drop(version)
            self.refuse(version, reason, entry=Entry(answerer.found, answerer.manifest))

    def reconsider(self) -> None:
        """Give refused ensembles another chance, because their members have changed."""
        for version, entry in self.waiting.items():
            self.refused.pop(version, None)
            self.known[version] = entry
        self.waiting.clear()

    def arrange(self) -> bool:
        """Serve what the policy chooses. What answers goes on until its successor is ready.

        Returns whether requests find anything else than after the last call.
        """
        while not all(map(self._make_servable, self.chosen())):
            continue  # one was refused: the policy may choose another instead
        chosen = self.chosen()
        for version in list(self.coming):
            if version not in chosen:
                del self.coming[version]
            elif self.coming[version].ready or not self.served[version].ready:
                self._take_place(version)
        self._turn_to(self.target)
        for version in list(self.served):
            if version not in chosen and self.served[version] is not self.front:
                self._drop(version)
        self.fresh &= self.answerers()
        before, self._found = self._found, (self.closed, self.front, dict(self.served))
        return before != self._found

    def chosen(self) -> list[str]:
        """Return the versions that the policy chooses of those known, the newest last."""
        return self.policy.choose(self.known)

    @property
    def target(self) -> Answerer | None:
        """The version that is to answer once it is ready: the newest that the policy chooses."""
        chosen = self.chosen()
        if not chosen:
            return None
        return self.coming.get(chosen[-1]) or self.served.get(chosen[-1])

    def beside(self) -> Iterator[Answerer]:
        """Yield the versions that must be loaded before they take another's place."""
        if self.closed:
            return
        if self.target is not None and self.target is not self.front:
            yield self.target
        yield from (one for one in self.coming.values() if one is not self.target)

    def answerers(self) -> set[Answerer]:
        """Return everything that is served or is to take a served version's place."""
        return {*self.served.values(), *self.coming.values()}

    def newest_first(self) -> list[Answerer]:
        """Return what is served, the newest first."""
        return [self.served[version] for version in sorted(self.served, key=int, reverse=True)]

    def listed(self) -> list[Servable]:
        """Return every version that is served or refused, the newest last."""
        versions = sorted({*self.served, *self.refused}, key=int)
        return [self.served.get(version) or self.refused[version] for version in versions]

    def versions(self) -> list[str]:
        """Return the number of every version on disk or in memory, the newest last."""
        return sorted({*self.known, *self.refused, *self.served}, key=int)

    @property
    def has_ensembles(self) -> bool:
        """Whether some version is an ensemble."""
        entries = [*self.known.values(), *self.waiting.values()]
        return any(entry.manifest.kind == "ensemble" for entry in entries)

    def model(self, version: str | None = None) -> Answerer:
        """Return a version, or the one that answers where None is named, loaded or not.

        Raises UnknownModel where it does not exist or the policy leaves it out, NotReady where it
        was refused, or the model was unloaded by its operator or has no version to serve.
        """
        if self.closed:
            raise NotReady(f"model {self.name!r} was unloaded by its operator")
        found = self.front if version is None else self.served.get(version)
        if found is not None:
            return found
        refused = self.refused.keys() - self.served
        newest = max(refused, key=int, default=None) if version is None else version
        if newest in refused:
            reason = self.refused[newest].reason
            raise NotReady(f"model {self.name!r} version {newest} was refused: {reason}")
        if version is None:
            raise NotReady(f"no version of model {self.name!r} is served: {self.policy}")
        existing = ", ".join(one.version for one in self.listed())
        left_out = f" while its policy is {self.policy}" if version in self.known else ""
        raise UnknownModel(
            f"model {self.name!r} has no version {version!r}{left_out}; it has: {existing}"
        )

    def _make_servable(self, version: str) -> bool:
        """Make the network or ensemble of a version, if it is new; False: it was refused."""
        entry = self.known[version]
        old, coming = self.served.get(version), self.coming.get(version)
        if any(one and one.manifest is entry.manifest for one in (old, coming)):
            return True
        try:
            new = self._make(entry)
        except RefusedModelError as error:
            self.refuse(version, str(error), entry=entry)
            return False
        self.fresh.add(new)
        self.coming.pop(version, None)
        places = self.served if old is None else self.coming
        places[version] = new
        return True

    def replace(self, old: Answerer, new: Answerer) -> None:
        """Put ``new``, the same version of an ensemble with other networks, in place of ``old``."""
        places = self.served if self.served.get(old.version) is old else self.coming
        places[old.version] = new
        if self.front is old:
            self.front = new

    def _take_place(self, version: str) -> None:
        old, new = self.served[version], self.coming.pop(version)
        self.served[version] = new
        if self.front is old:
            self._turn_to(new)

    def _turn_to(self, target: Answerer | None) -> None:
        """Make ``target`` the front, the version that answers, with two exceptions.

        The front stays where it is ready and ``target`` is not. It stays without a target, where
        it is ready and its files are still good, or where it is the default model's.
        """
        front = self.front
        if target is front:
            return
        if front is not None and front.ready:
            if target is not None:
                if not target.ready:
                    return
                metrics.MODEL_SWAPS.labels(self.name).inc()
                logger.info("%s: version %s answers now", self.name, target.version)
            elif front.version in self.known:
                logger.error(
                    "%s: nothing of what the policy %s chooses can be served; version %s goes on",
                    self.name,
                    self.policy,
                    front.version,
                )
                return
            elif self._kept:
                logger.error(
                    "%s, the default model, has no version on disk any more that can be served; "
                    "version %s goes on from memory",
                    self.name,
                    front.version,
                )
                return
        self.front = target

    def _drop(self, version: str) -> None:
        if self.front is self.served.pop(version):
            self.front = None

    def _forget(self, version: str) -> None:
        for places in (self.known, self.refused, self.waiting, self.notes):
            places.pop(version, None)
