"""The versions of one model: which are there, which are served, and which one answers.

What changes is arranged anew as a whole, in one step of the event loop: no request sees half of it.
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
    """One model. Lives in one event loop."""

    def __init__(
        self, name: str, policy: Policy, make: Callable[[Entry], Answerer], *, kept: bool
    ) -> None:
        """``make`` puts together what answers for an entry, or raises RefusedModelError.

        ``kept``: what answers goes on when nothing on disk could take its place.
        """
        self.name = name
        self.policy = policy
        self._make = make
        self._kept = kept
        self.closed = False
        """Whether an operator unloaded it."""
        self.known: dict[str, Entry] = {}
        """On disk and not refused, whether or not the policy chooses it."""
        self.refused: dict[str, Refusal] = {}
        self.waiting: dict[str, Entry] = {}
        """Refused ensembles: other versions of their members may do."""
        self.served: dict[str, Answerer] = {}
        self.coming: dict[str, Answerer] = {}
        """To take the place of a served one with the same number, once it is ready."""
        self.front: Answerer | None = None
        """What answers where no version is named."""
        self.fresh: set[Answerer] = set()
        """Made, and not yet considered for being loaded ahead of their use."""
        self.notes: dict[str, str] = {}
        """Why versions that could be loaded are not."""
        self._found: object = None
        """What requests found after the last arrangement."""

    def put(self, entry: Entry) -> None:
        """A version is there, or its files have changed."""
        version = entry.found.version
        known, old = self.known.get(version), self.served.get(version)
        if old is not None and old.ready and old.manifest == entry.manifest:
            # what answers is what is there, whatever was there meanwhile: it is not loaded again
            self._forget(version)
            self.known[version] = Entry(old.found, old.manifest)
            if version in self.coming and self.coming[version].manifest != entry.manifest:
                del self.coming[version]
            return
        if known is None or known.manifest != entry.manifest or version in self.refused:
            self._forget(version)
            self.known[version] = entry

    def remove(self, version: str) -> None:
        """A version is not there any more."""
        self._forget(version)
        self.coming.pop(version, None)

    def refuse(self, version: str, reason: str, *, entry: Entry | None = None) -> None:
        """What is there must not be served; what was there before and is loaded goes on.

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
        """This one turned out to be broken, unless another has taken its place anyway."""
        version = answerer.version
        if answerer in (self.served.get(version), self.coming.get(version)):
            if self.served.get(version) is answerer:
                self._drop(version)
            self.refuse(version, reason, entry=Entry(answerer.found, answerer.manifest))

    def reconsider(self) -> None:
        """Members of ensembles have changed: those that were refused may be served now."""
        for version, entry in self.waiting.items():
            self.refused.pop(version, None)
            self.known[version] = entry
        self.waiting.clear()

    def arrange(self) -> bool:
        """Serve what the policy chooses. What answers goes on until its successor is ready.

        Returns whether requests find anything else now than after the last time.
        """
        while not all(map(self._stock, self.chosen())):
            continue  # one was refused: another may be chosen instead
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
        """The versions that are to be served, the newest last."""
        return self.policy.choose(self.known)

    @property
    def target(self) -> Answerer | None:
        """What is to answer once it is ready."""
        chosen = self.chosen()
        if not chosen:
            return None
        return self.coming.get(chosen[-1]) or self.served.get(chosen[-1])

    def beside(self) -> Iterator[Answerer]:
        """What is to be loaded before it takes the place of another."""
        if self.closed:
            return
        if self.target is not None and self.target is not self.front:
            yield self.target
        yield from (one for one in self.coming.values() if one is not self.target)

    def answerers(self) -> set[Answerer]:
        """Everything that is served or comes."""
        return {*self.served.values(), *self.coming.values()}

    def newest_first(self) -> list[Answerer]:
        """What is served: first the version that answers where none is named, if it is newest."""
        return [self.served[version] for version in sorted(self.served, key=int, reverse=True)]

    def listed(self) -> list[Servable]:
        """Every version that is served or refused, the newest last."""
        versions = sorted({*self.served, *self.refused}, key=int)
        return [self.served.get(version) or self.refused[version] for version in versions]

    def versions(self) -> list[str]:
        """Every version on disk or in memory, the newest last."""
        return sorted({*self.known, *self.refused, *self.served}, key=int)

    @property
    def has_ensembles(self) -> bool:
        """Whether some version is an ensemble."""
        entries = [*self.known.values(), *self.waiting.values()]
        return any(entry.manifest.kind == "ensemble" for entry in entries)

    def model(self, version: str | None = None) -> Answerer:
        """What answers, loaded or not. Raises UnknownModel or NotReady."""
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
        there = ", ".join(one.version for one in self.listed())
        left_out = f" while its policy is {self.policy}" if version in self.known else ""
        raise UnknownModel(
            f"model {self.name!r} has no version {version!r}{left_out}; it has: {there}"
        )

    def _stock(self, version: str) -> bool:
        """Have what answers for a version at hand; False where it was refused instead."""
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
        """The same version of an ensemble, of other networks."""
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
        """Let it answer, unless what answers is ready and it is not."""
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
