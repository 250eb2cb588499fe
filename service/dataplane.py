"""The data plane: the use cases, once. Transports translate into these calls and back.

A picture's way: bytes -> `pictures` (in a decode thread) -> `protocols` cut crops -> the model's
batcher -> the protocol combines the probabilities -> top-k with labels.
"""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Container, Coroutine, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import perf_counter
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from service import metrics
from service.answers import Classification, Timing, top_predictions
from service.catalogue import Answerer, Catalogue
from service.engine.batcher import Admission, Answer, Permit
from service.ensemble import PROTOCOL_NAME, Ensemble, Part, parts_of, weighted_mean
from service.errors import BadParameter, BodyTooLarge, DeadlineExceeded, Internal, ZooError
from service.pictures import Exif, decode_scaled
from service.preprocessing import Crops, decoded_side
from service.settings import Settings

logger = logging.getLogger("zoo.dataplane")

DEFAULT_TOP_K = 5

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Query:
    """What a client may ask for besides its pictures; None stands for the default."""

    model: str | None = None
    version: str | None = None
    protocol: str | None = None
    top_k: int = DEFAULT_TOP_K
    exif: Exif = "apply"


class _Request(NamedTuple):
    """What the pictures of one request have in common."""

    model: Answerer
    parts: list[Part]
    query: Query
    permit: Permit
    started: float
    deadline: float


class _Prepared(NamedTuple):
    groups: list[list[Crops]]
    """For each part of the answer its protocol's groups."""
    decode_s: float
    preprocess_s: float


class DataPlane:
    """Everything that one worker does, behind any transport. Lives in one event loop."""

    def __init__(self, settings: Settings) -> None:
        """Nothing is opened before `start`."""
        self.settings = settings
        self.admission = Admission(settings.queue_crops, metrics.ADMITTED_CROPS.set)
        self.catalogue = Catalogue(settings)
        self._started = False

    async def start(self, only: Container[str] | None = None) -> None:
        """Load and warm up every model of the repository, or those in ``only``.

        What is broken is refused by name.
        """
        self._pictures = ThreadPoolExecutor(self.settings.picture_threads, "picture")
        self._runs = ThreadPoolExecutor(self.settings.run_threads, "run")
        await self.catalogue.load_all(self._runs, only)
        gc.collect()
        gc.freeze()  # what is alive now stays: the collector need not walk it again
        self._started = True

    async def stop(self) -> None:
        """Finish accepted work, then close everything."""
        self._started = False
        await self.catalogue.close()
        # a decode that nobody waits for any more is not waited for here either
        self._pictures.shutdown(wait=False, cancel_futures=True)
        self._runs.shutdown()
        metrics.forget_this_worker()

    @property
    def ready(self) -> bool:
        """Whether the default model answers; other models may have been refused."""
        return self._started and self.catalogue.has_ready(self.settings.default_model)

    def refused(self, transport: str, code: str) -> None:
        """Count a request that ended before it could be read: `classify` counts the others."""
        metrics.REQUESTS.labels(metrics.UNKNOWN, metrics.UNKNOWN, transport, code).inc()

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
        names = [name if name in self.catalogue else metrics.UNKNOWN, metrics.UNKNOWN, transport]
        try:
            model = self.catalogue.model(name, query.version)
            parts = parts_of(model, query.protocol)
            names[1] = _protocol_name(model, parts)
            _check_top_k(query.top_k, model)
            if len(pictures) > self.settings.max_pictures:
                raise BodyTooLarge(
                    f"the request holds more than {self.settings.max_pictures} pictures, "
                    "which is the limit"
                )
            crops = sum(part.protocol.count(part.model.manifest) for part in parts)
            with self.admission.acquire(crops * len(pictures)) as permit:
                request = _Request(model, parts, query, permit, started, deadline)
                answers = await _all(self._classify(picture, request) for picture in pictures)
        except ZooError as error:
            metrics.REQUESTS.labels(*names, error.code).inc()
            raise
        except asyncio.CancelledError:
            metrics.REQUESTS.labels(*names, "cancelled").inc()
            raise
        codes = [answer.code if isinstance(answer, ZooError) else "ok" for answer in answers]
        for code in codes:
            metrics.PICTURES.labels(*names, code).inc()
        metrics.REQUESTS.labels(*names, codes[0] if len(codes) == 1 else "ok").inc()
        return answers

    async def _classify(
        self, picture: bytes | memoryview, request: _Request
    ) -> Classification | ZooError:
        model = request.model
        try:
            prepared = await self._prepare(picture, request)
            runs = [
                part.model.batchers[part.protocol.graph].infer(
                    group, request.permit, request.deadline
                )
                for part, groups in zip(request.parts, prepared.groups, strict=True)
                for group in groups
            ]
            done = await _all(runs)
            probabilities = _combined(request.parts, prepared.groups, done)
        except ZooError as error:
            return error
        except Exception:
            logger.exception("a picture of %d bytes could not be classified", len(picture))
            return Internal("the picture could not be classified")
        stages = {
            "decode": prepared.decode_s,
            "preprocess": prepared.preprocess_s,
            "queue": max(answer.queue_s for answer in done),
            "inference": max(answer.inference_s for answer in done),
            "total": perf_counter() - request.started,
        }
        for stage, seconds in stages.items():
            metrics.STAGE_SECONDS.labels(model.name, stage).observe(seconds)
        return Classification(
            model.name,
            model.version,
            _protocol_name(model, request.parts),
            top_predictions(probabilities, model.labels, request.query.top_k),
            Timing(**{stage: 1e3 * seconds for stage, seconds in stages.items()}),
            model.random,
        )

    async def _prepare(self, picture: bytes | memoryview, request: _Request) -> _Prepared:
        """Decode and crop in a thread. What has not begun when the client leaves never does."""

        def prepare() -> _Prepared:
            begun = perf_counter()
            if begun >= request.deadline:
                raise DeadlineExceeded("the deadline passed before the picture was decoded")
            limit, exif = self.settings.max_pixels, request.query.exif
            mode = self.settings.preprocessing
            at_least = _decoded_side(request.parts) if mode == "fast" else None
            image = decode_scaled(picture, at_least, max_pixels=limit, exif=exif)
            decoded = perf_counter()
            groups = [
                part.protocol.crops(image, part.model.manifest, mode) for part in request.parts
            ]
            return _Prepared(groups, decoded - begun, perf_counter() - decoded)

        future = asyncio.get_running_loop().run_in_executor(self._pictures, prepare)
        try:
            await asyncio.wait({future}, timeout=max(0.0, request.deadline - perf_counter()))
        finally:
            if not future.done():
                future.cancel()
        if future.cancelled():
            raise DeadlineExceeded("the deadline passed before the picture was decoded")
        return future.result()


def _combined(
    parts: Sequence[Part], groups: Sequence[Sequence[Crops]], done: Iterable[Answer]
) -> npt.NDArray[np.float32]:
    """The answer of all parts, float32 [classes]. Raises Internal when it is not finite."""
    rest = iter(done)
    answers = [
        part.protocol.answer([next(rest).outputs.probabilities for _ in own])
        for part, own in zip(parts, groups, strict=True)
    ]
    probabilities = weighted_mean(answers, [part.weight for part in parts])
    if not np.isfinite(probabilities).all():
        raise Internal("the network gave no finite probabilities for this picture")
    return probabilities


def _decoded_side(parts: Sequence[Part]) -> int:
    """Pixels that a picture's shorter side keeps when fast preprocessing decodes it scaled."""
    return decoded_side(max(part.protocol.side(part.model.manifest) for part in parts))


async def _all(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Await all, concurrently where there are several. When one fails, the others are cancelled."""
    coroutines = list(work)
    if len(coroutines) == 1:
        return [await coroutines[0]]
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        raise


def _protocol_name(model: Answerer, parts: list[Part]) -> str:
    return PROTOCOL_NAME if isinstance(model, Ensemble) else parts[0].protocol.name


def _check_top_k(top_k: int, model: Answerer) -> None:
    if not 1 <= top_k <= len(model.labels):
        raise BadParameter(
            f"top_k is {top_k}, model {model.name!r} allows 1 to {len(model.labels)}"
        )
