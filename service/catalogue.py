"""The models that a worker holds: loaded, or refused with a reason."""

from __future__ import annotations

import logging
from collections.abc import Container
from dataclasses import dataclass
from functools import partial

from service import metrics, repository
from service.engine.model import Model
from service.engine.pool import Pool
from service.engine.session import BrokenModelError
from service.ensemble import Ensemble
from service.errors import NotReady, UnknownModel
from service.manifest import EnsembleManifest
from service.repository import RefusedModelError, Version
from service.settings import Settings

logger = logging.getLogger("zoo.catalogue")

Answerer = Model | Ensemble
"""What can answer a request."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A version on disk that is not served, and why."""

    name: str
    version: str
    reason: str


class Catalogue:
    """Every version of the repository, by model and version, the newest last."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._versions: dict[str, dict[str, Answerer | Refusal]] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._versions

    async def load_all(self, pool: Pool, only: Container[str] | None = None) -> None:
        """Load every version, or those of the models in ``only``: networks, then ensembles."""
        ensembles: list[tuple[Version, EnsembleManifest]] = []
        for found in repository.find(self._settings.models):
            if only is not None and found.name not in only:
                continue
            waiting = Refusal(found.name, found.version, "it is itself an ensemble")
            self._versions.setdefault(found.name, {})[found.version] = waiting
            try:
                manifest = repository.read(found)
                if isinstance(manifest, EnsembleManifest):
                    ensembles.append((found, manifest))
                    continue
                model = await pool.submit("run", partial(Model, found, manifest, self._settings))
            except (RefusedModelError, BrokenModelError) as error:
                self._refuse(found, error)
                continue
            except Exception as error:  # one model must not keep the others from serving
                logger.exception("%s version %s could not be loaded", found.name, found.version)
                self._refuse(found, error)
                continue
            model.open(pool, metrics.ModelObserver(found.name))
            self._serve(model)
        for found, ensemble in ensembles:
            try:
                self._serve(Ensemble(ensemble, self._network))
            except RefusedModelError as error:
                self._refuse(found, error)

    async def close(self) -> None:
        """Finish what every network has accepted."""
        for model in self.models():
            if isinstance(model, Model):
                await model.close()

    def _serve(self, model: Answerer) -> None:
        self._versions[model.name][model.version] = model
        metrics.MODEL_READY.labels(model.name, model.version).set(1)
        if isinstance(model, Model):
            metrics.MODEL_MAX_BATCH.labels(model.name, model.version).set(model.max_batch)
            for provider, nodes in model.nodes.items():
                metrics.MODEL_NODES.labels(model.name, model.version, provider).set(nodes)

    def _refuse(self, found: Version, error: Exception) -> None:
        logger.error("refused %s version %s: %s", found.name, found.version, error)
        refusal = Refusal(found.name, found.version, str(error))
        self._versions[found.name][found.version] = refusal
        metrics.MODEL_READY.labels(found.name, found.version).set(0)

    def models(self) -> list[Answerer | Refusal]:
        """Every version in the repository, by name and version: loaded, or refused."""
        return [model for versions in self._versions.values() for model in versions.values()]

    def versions(self, name: str) -> list[Answerer | Refusal]:
        """Every version of one model, the newest last. Raises UnknownModel."""
        if name not in self._versions:
            there = ", ".join(self._versions) or "none"
            raise UnknownModel(f"there is no model {name!r}; there are: {there}")
        return list(self._versions[name].values())

    def has_ready(self, name: str) -> bool:
        """Whether some version of this model answers."""
        return any(not isinstance(m, Refusal) for m in self._versions.get(name, {}).values())

    def model(self, name: str, version: str | None = None) -> Answerer:
        """The version that answers: the newest that is served, or the named one.

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

    def _network(self, name: str, version: str | None) -> Model:
        model = self.model(name, version)
        if not isinstance(model, Model):
            raise NotReady(f"model {name!r} is itself an ensemble")
        return model
