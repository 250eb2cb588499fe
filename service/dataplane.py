"""The data plane: the use cases, once. Transports translate into these calls and back.

A picture's way: bytes -> `pictures` (in a decode thread) -> `protocols` cut crops -> the model's
batcher -> the protocol combines the probabilities -> top-k with labels.
"""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import perf_counter
from typing import NamedTuple

from service import metrics, repository
from service.answers import Classification, Timing, top_predictions
from service.engine.batcher import Admission, Permit
from service.engine.model import Model
from service.engine.session import BrokenModelError
from service.errors import (
    BadParameter,
    BodyTooLarge,
    DeadlineExceeded,
    Internal,
    NotReady,
    UnknownModel,
    ZooError,
)
from service.pictures import Exif, decode
from service.preprocessing import Crops
from service.protocols import PROTOCOLS, Protocol
from service.repository import RefusedModelError, Version
from service.settings import Settings

logger = logging.getLogger("zoo.dataplane")

DEFAULT_TOP_K = 5


@dataclass(frozen=True, slots=True)
class Query:
    """What a client may ask for besides its pictures; None stands for the default."""

    model: str | None = None
    version: str | None = None
    protocol: str | None = None
    top_k: int = DEFAULT_TOP_K
    exif: Exif = "apply"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A version on disk that is not served, and why."""

    name: str
    version: str
    reason: str


class _Prepared(NamedTuple):
    groups: list[Crops]
    decode_s: float
    preprocess_s: float


class DataPlane:
    """Everything that one worker does, behind any transport. Lives in one event loop."""

    def __init__(self, settings: Settings) -> None:
        """Nothing is opened before `start`."""
        self.settings = settings
        self.admission = Admission(settings.queue_crops, metrics.ADMITTED_CROPS.set)
        self._versions: dict[str, dict[str, Model | Refusal]] = {}
        self._ready = False

    async def start(self) -> None:
        """Load and warm up every model of the repository. What is broken is refused by name."""
        settings = self.settings
        self._pictures = ThreadPoolExecutor(settings.picture_threads, "picture")
        self._runs = ThreadPoolExecutor(settings.run_threads, "run")
        for found in repository.find(settings.models):
            await self._load(found)
        gc.collect()
        gc.freeze()  # what is alive now stays: the collector need not walk it again
        self._ready = True

    async def stop(self) -> None:
        """Finish accepted work, then close everything."""
        self._ready = False
        for model in self.models():
            if isinstance(model, Model) and model.batcher:
                await model.batcher.close()
        self._pictures.shutdown()
        self._runs.shutdown()
        metrics.forget_this_worker()

    async def _load(self, found: Version) -> None:
        loop = asyncio.get_running_loop()
        versions = self._versions.setdefault(found.name, {})
        gauge = metrics.MODEL_READY.labels(found.name, found.version)
        try:
            model = await loop.run_in_executor(self._runs, Model, found, self.settings)
        except (RefusedModelError, BrokenModelError) as error:
            logger.error("refused %s version %s: %s", found.name, found.version, error)
            versions[found.version] = Refusal(found.name, found.version, str(error))
            gauge.set(0)
            return
        model.open(self._runs, self.settings.run_threads, metrics.ModelObserver(found.name))
        versions[found.version] = model
        gauge.set(1)

    def models(self) -> list[Model | Refusal]:
        """Every version in the repository, by name and version: loaded, or refused."""
        return [model for versions in self._versions.values() for model in versions.values()]

    def versions(self, name: str) -> list[Model | Refusal]:
        """Every version of one model, the newest last. Raises UnknownModel."""
        if name not in self._versions:
            raise UnknownModel(f"there is no model {name!r}; there are: {self._names()}")
        return list(self._versions[name].values())

    @property
    def ready(self) -> bool:
        """Whether the default model answers; other models may have been refused."""
        versions = self._versions.get(self.settings.default_model, {})
        return self._ready and any(isinstance(model, Model) for model in versions.values())

    def model(self, name: str | None = None, version: str | None = None) -> Model:
        """The model that answers: the default one, or the named; the newest version, or the named.

        Raises UnknownModel when it is not in the repository, NotReady when it was refused.
        """
        name = name or self.settings.default_model
        versions = self.versions(name)
        if version is not None:
            chosen = self._versions[name].get(version)
            if chosen is None:
                raise UnknownModel(
                    f"model {name!r} has no version {version!r}; "
                    f"it has: {', '.join(self._versions[name])}"
                )
            versions = [chosen]
        for candidate in reversed(versions):
            if isinstance(candidate, Model):
                return candidate
        refusal = versions[-1]
        assert isinstance(refusal, Refusal)  # noqa: S101
        raise NotReady(f"model {name!r} version {refusal.version} was refused: {refusal.reason}")

    async def classify(
        self,
        pictures: Sequence[bytes | memoryview],
        query: Query,
        *,
        transport: str,
        deadline: float,
    ) -> list[Classification | ZooError]:
        """Classify one or more encoded pictures before ``deadline`` (``time.perf_counter``).

        The answers come in the order of the pictures; one that fails is an error in its place
        and does not touch the others. Raises BadParameter, UnknownModel, NotReady, BodyTooLarge
        (too many pictures) or Overloaded for the request as a whole.
        """
        started = perf_counter()
        name = query.model or self.settings.default_model
        names = [
            name if name in self._versions else metrics.UNKNOWN,
            query.protocol if query.protocol in PROTOCOLS else metrics.UNKNOWN,
        ]
        try:
            model = self.model(query.model, query.version)
            protocol = _protocol(model, query.protocol)
            names[1] = protocol.name
            _check_top_k(query.top_k, model)
            if len(pictures) > self.settings.max_pictures:
                raise BodyTooLarge(
                    f"the request holds more than {self.settings.max_pictures} pictures, "
                    "which is the limit"
                )
            with self.admission.acquire(protocol.count(model.manifest) * len(pictures)) as permit:
                work = [
                    self._classify(picture, model, protocol, query, permit, started, deadline)
                    for picture in pictures
                ]
                answers = [await work[0]] if len(work) == 1 else await asyncio.gather(*work)
        except ZooError as error:
            metrics.REQUESTS.labels(*names, transport, error.code).inc()
            raise
        except asyncio.CancelledError:
            metrics.REQUESTS.labels(*names, transport, "cancelled").inc()
            raise
        for answer in answers:
            code = answer.code if isinstance(answer, ZooError) else "ok"
            metrics.PICTURES.labels(*names, transport, code).inc()
        only = answers[0] if len(answers) == 1 else None
        code = only.code if isinstance(only, ZooError) else "ok"
        metrics.REQUESTS.labels(*names, transport, code).inc()
        return answers

    async def _classify(
        self,
        picture: bytes | memoryview,
        model: Model,
        protocol: Protocol,
        query: Query,
        permit: Permit,
        started: float,
        deadline: float,
    ) -> Classification | ZooError:
        assert model.batcher is not None  # noqa: S101
        try:
            prepared = await self._prepare(picture, model, protocol, query, deadline)
            runs = [model.batcher.infer(group, permit, deadline) for group in prepared.groups]
            done = [await runs[0]] if len(runs) == 1 else await asyncio.gather(*runs)
        except ZooError as error:
            return error
        except Exception:
            logger.exception("a picture of %d bytes could not be classified", len(picture))
            return Internal("the picture could not be classified")
        probabilities = protocol.answer([answer.outputs.probabilities for answer in done])
        stages = {
            "decode": prepared.decode_s,
            "preprocess": prepared.preprocess_s,
            "queue": max(answer.queue_s for answer in done),
            "inference": max(answer.inference_s for answer in done),
            "total": perf_counter() - started,
        }
        for stage, seconds in stages.items():
            metrics.STAGE_SECONDS.labels(model.manifest.name, stage).observe(seconds)
        return Classification(
            model.manifest.name,
            model.manifest.version,
            protocol.name,
            top_predictions(probabilities, model.labels, query.top_k),
            Timing(**{stage: 1e3 * seconds for stage, seconds in stages.items()}),
        )

    async def _prepare(
        self,
        picture: bytes | memoryview,
        model: Model,
        protocol: Protocol,
        query: Query,
        deadline: float,
    ) -> _Prepared:
        """Decode and crop in a thread. What has not begun when the client leaves never does."""

        def prepare() -> _Prepared:
            begun = perf_counter()
            if begun >= deadline:
                raise DeadlineExceeded("the deadline passed before the picture was decoded")
            image = decode(picture, max_pixels=self.settings.max_pixels, exif=query.exif)
            decoded = perf_counter()
            groups = protocol.crops(image, model.manifest)
            return _Prepared(groups, decoded - begun, perf_counter() - decoded)

        future = asyncio.get_running_loop().run_in_executor(self._pictures, prepare)
        try:
            await asyncio.wait({future}, timeout=max(0.0, deadline - perf_counter()))
        finally:
            if not future.done():
                future.cancel()
        if future.cancelled():
            raise DeadlineExceeded("the deadline passed before the picture was decoded")
        return future.result()

    def _names(self) -> str:
        return ", ".join(self._versions) or "none"


def _protocol(model: Model, name: str | None) -> Protocol:
    supported = model.manifest.protocols
    chosen = name or supported.default
    if chosen not in supported.names or chosen not in PROTOCOLS:
        able = ", ".join(n for n in supported.names if n in PROTOCOLS)
        raise BadParameter(
            f"protocol {chosen!r} is none of model {model.manifest.name!r}'s: {able}"
        )
    return PROTOCOLS[chosen]


def _check_top_k(top_k: int, model: Model) -> None:
    if not 1 <= top_k <= model.manifest.classes:
        raise BadParameter(
            f"top_k is {top_k}, model {model.manifest.name!r} allows 1 to {model.manifest.classes}"
        )
