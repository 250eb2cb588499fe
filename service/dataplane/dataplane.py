"""The data plane: the use cases, once. Transports translate into these calls and back.

A picture's way through the threads is a `picture_task`: bytes -> `imaging.decode` -> the evaluation
protocol cuts crops -> the model's batcher -> the protocol combines the probabilities. Then top-k
with labels.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Container, Sequence
from functools import partial
from math import inf
from time import perf_counter
from typing import TypeAlias, TypeVar

import numpy as np

from service.config.settings import Settings
from service.dataplane.body_budget import BodyBudget
from service.dataplane.offload import Offload
from service.dataplane.picture_task import PictureTask, Rules
from service.dataplane.query import Query
from service.dataplane.results import Classification, Inference, Timing
from service.dataplane.retry import Patience, all_of, all_or_raise, patiently
from service.engine.admission import Admission
from service.engine.deadlines import Deadlines
from service.engine.pool import Pool
from service.errors import BodyTooLarge, Internal, NotReady, UnknownModel, ZooError, let_go
from service.imaging import kernels
from service.imaging.crops import Crops
from service.repository.catalog import Catalog
from service.repository.control import Control
from service.repository.ensemble import Answerer
from service.repository.index import IndexEntry
from service.repository.reconciler import Reconciler
from service.repository.servable import Servable
from service.telemetry import metrics, value_files
from service.telemetry.model_metrics import ModelMetrics
from service.telemetry.request_metrics import RequestMetrics
from service.telemetry.version_stats import Spent

logger = logging.getLogger("zoo.dataplane")

GC_THRESHOLD = 20_000
"""Containers made between two collections: some hundred requests; Python's own 700 are a few."""

READY_MADE = "ready_made"
"""What the metrics name as the protocol of crops that the client cut itself."""

Picture: TypeAlias = bytes | memoryview
"""Encoded, as in a file."""
Pictures: TypeAlias = Sequence[Picture]
T = TypeVar("T")


class DataPlane:
    """Everything that one worker does, behind any transport. Lives in one event loop."""

    def __init__(self, settings: Settings, model_metrics: ModelMetrics | None = None) -> None:
        """Nothing is opened before `start`. Without ``model_metrics`` it makes its own."""
        self.settings = settings
        self.model_metrics = model_metrics or ModelMetrics(settings)
        self.admission = Admission(
            settings.queue_crops,
            metrics.ADMITTED_CROPS.set,
            threads=settings.pool_threads,
            refused=metrics.refused,
        )
        self.bodies = BodyBudget(settings.max_bodies_bytes)
        self.offload = Offload()
        self.deadlines = Deadlines()
        self.catalog = Catalog(settings, self.model_metrics, self._tell)
        self._reconciler = Reconciler(settings, self.catalog)
        self._control = Control(settings, self.catalog, self._reconciler)
        self._started = self._left = False
        self._listeners: list[Callable[[bool], None]] = []

    async def start(self, only: Container[str] | None = None) -> None:
        """Read the manifests, or those of the models in ``only``, and load what is to be loaded.

        What is broken is refused by name.
        """
        self.model_metrics.begin()
        self._pool = Pool(self.settings.pool_threads, "zoo")
        self.catalog.open(self._pool)
        await self._reconciler.start(only)
        await self._pool.submit("prepare", kernels.prepare)
        gc.collect()
        gc.freeze()  # what is alive now stays: the collector need not walk it again
        gc.set_threshold(GC_THRESHOLD, 50, 100)
        self._started = True
        self._tell()

    def leave(self) -> None:
        """Not ready from now on, so that nobody sends new work; what comes is answered."""
        self._left = True
        self._tell()

    async def stop(self) -> None:
        """Finish accepted work, then close everything."""
        self.leave()
        try:
            await self.catalog.close()
            await self._reconciler.stop()
            self._pool.close()
            self.offload.close()
        finally:
            value_files.end()

    @property
    def ready(self) -> bool:
        """Whether the default model answers; other models may have been refused."""
        return (
            self._started and not self._left and self.catalog.has_ready(self.settings.default_model)
        )

    def listen(self, listener: Callable[[bool], None]) -> None:
        """Tell ``listener`` whether the plane is ready, now and whenever that may have changed."""
        self._listeners.append(listener)
        listener(self.ready)

    def _tell(self) -> None:
        ready = self.ready
        metrics.READY.set(int(ready))
        for listener in self._listeners:
            listener(ready)

    def index(self, ready_only: bool = False) -> list[IndexEntry]:
        """Every version in the repository, by name and version, as this worker has it.

        Raises ManagementClosed.
        """
        return self._control.index(ready_only=ready_only)

    async def load(
        self, name: str, versions: str | None = None, deadline: float | None = None
    ) -> None:
        """Look for new versions of a model and load it, in every worker.

        ``versions`` is a policy (as ZOO_VERSIONS) that holds for this model until the next load;
        None: that of the settings. Ends when every living worker has loaded it beside what it had,
        and answers with it. Raises ManagementClosed, BadParameter, UnknownModel, NotReady with the
        reason where a version was refused or does not fit (what answered before goes on), and
        DeadlineExceeded at ``deadline`` (``time.perf_counter``; None: as for requests).
        """
        await self._control.load(name, versions, deadline)

    async def unload(self, name: str, deadline: float | None = None) -> None:
        """Let a model answer no more, in every worker, until it is loaded by `load`.

        Ends when what it had accepted is answered and its memory is free. Raises
        ManagementClosed, BadParameter for the default model and its members, UnknownModel,
        NotReady when the desired state cannot be written, and DeadlineExceeded as `load`.
        """
        await self._control.unload(name, deadline)

    async def model(self, name: str, version: str | None) -> Answerer:
        """What answers, loaded or not: `Catalog.model`, once this worker knows what others do."""
        return await self._up_to_date(self.catalog.model, name, version)

    async def versions(self, name: str) -> list[Servable]:
        """Every version of a model: `Catalog.versions`, once this worker knows what others do."""
        return await self._up_to_date(self.catalog.versions, name)

    async def _up_to_date(self, ask: Callable[..., T], *about: str | None) -> T:
        try:
            return ask(*about)
        except (UnknownModel, NotReady):
            if not await self._reconciler.catch_up():
                raise
        return ask(*about)

    def models(self) -> list[Servable]:
        """Every version of every model in the repository, as this worker has it."""
        return self.catalog.models()

    def versions_here(self, name: str) -> list[Servable]:
        """Every version of a model, as this worker has it. Raises UnknownModel."""
        return self.catalog.versions(name)

    def deadline(self, seconds: float = inf, last: float = inf) -> float:
        """When a request that begins now must be answered, by ``time.perf_counter``.

        It may ask for fewer ``seconds`` than ZOO_DEADLINE_MS, or for an end at ``last``.
        """
        return min(last, perf_counter() + min(seconds, self.settings.deadline_ms / 1e3))

    async def classify(
        self,
        pictures: Pictures,
        query: Query,
        *,
        transport: str,
        deadline: float,
        patience: Patience | None = None,
    ) -> list[Classification | ZooError]:
        """Classify one or more encoded pictures before ``deadline`` (``time.perf_counter``).

        The answers come in the order of the pictures; one that fails is an error in its place
        and does not touch the others. Raises BadParameter, UnknownModel, NotReady, BodyTooLarge
        (too many pictures), Overloaded or DeadlineExceeded (it had passed, or did while the model
        was being loaded) for the request as a whole. With ``patience`` an Overloaded
        request is tried again for as long as that returns True; only the end is counted.
        """
        with self._tally(query, transport) as tally:
            work = partial(self._answers, pictures, query, tally, deadline)
            return await patiently(work, patience)

    async def classify_all(
        self,
        pictures: Pictures,
        query: Query,
        *,
        transport: str,
        deadline: float,
        patience: Patience | None = None,
    ) -> list[Classification]:
        """As `classify`, but the first picture that fails fails the request, by its error."""
        with self._tally(query, transport) as tally:
            work = partial(self._answers, pictures, query, tally, deadline)
            return all_or_raise(await patiently(work, patience))

    async def infer(
        self,
        crops: Crops,
        query: Query,
        *,
        transport: str,
        deadline: float,
        patience: Patience | None = None,
    ) -> Inference:
        """Compute crops that the client has cut, uint8 [N, height, width, channels], N >= 1.

        Of ``query`` only model and version matter. Raises BadParameter for crops that are not the
        network's, or for an ensemble, whose networks take crops of their own; otherwise as
        `classify`, and Internal when the device failed.
        """
        with self._tally(query, transport, "infer") as tally:
            work = partial(self._inference, crops, query, tally, deadline)
            return await patiently(work, patience)

    def _tally(self, query: Query, transport: str, use_case: str = "classify") -> RequestMetrics:
        name = query.model or self.settings.default_model
        return RequestMetrics(
            name if name in self.catalog else metrics.UNKNOWN, transport, use_case
        )

    async def _answers(
        self, pictures: Pictures, query: Query, tally: RequestMetrics, deadline: float
    ) -> list[Classification | ZooError]:
        """The answers of the version that serves ``query``, each counted by how it ended.

        What can be refused is refused, and the permit taken, before anything is loaded.
        """
        model = await self.model(query.model or self.settings.default_model, query.version)
        plan = model.plan(query.protocol)
        tally.chosen(model.name, model.version, plan.protocol)
        top_k = query.classes_of(model.name, model.classes)
        if len(pictures) > self.settings.max_pictures:
            raise BodyTooLarge(
                f"the request holds more than {self.settings.max_pictures} pictures, "
                "which is the limit"
            )
        left, crops = deadline - perf_counter(), plan.crops * len(pictures)
        with self.admission.acquire(
            crops, left, size=plan.crops, expected=plan.seconds_per_crop
        ) as permit:
            async with self.catalog.use(model, deadline, permit):
                rules = Rules(
                    parts=plan.parts,
                    permit=permit,
                    deadline=deadline,
                    max_pixels=self.settings.max_pixels,
                    preprocessing=self.settings.preprocessing,
                    exif=query.exif,
                    labels=model.labels,
                    top_k=top_k,
                    trace=tally.trace,
                    vectors=query.vectors,
                )
                classify = partial(self._classify, model, plan.protocol, rules, tally)
                if len(pictures) == 1:  # which needs no task of its own
                    answers = [await classify(pictures[0])]
                else:
                    answers = await all_of(map(classify, pictures))
                tally.pictures(a.code if isinstance(a, ZooError) else "ok" for a in answers)
                return answers

    async def _classify(
        self, model: Answerer, protocol: str, rules: Rules, tally: RequestMetrics, picture: Picture
    ) -> Classification | ZooError:
        task = PictureTask(picture, rules, self._pool, self.deadlines)
        try:
            done = await task.result()
        except ZooError as error:
            let_go(error)
            return error
        except Exception as error:
            logger.exception("a picture of %d bytes could not be classified", len(picture))
            let_go(error)
            return Internal("the picture could not be classified")
        stages = {**done.stages, "total": perf_counter() - tally.started}
        tally.picture(stages, done.combine_s)
        return Classification(
            model.name,
            model.version,
            protocol,
            done.predictions,
            Timing._make([1e3 * stages[stage] for stage in Timing._fields]),
            model.random,
            done.vectors,
        )

    async def _inference(
        self, crops: Crops, query: Query, tally: RequestMetrics, deadline: float
    ) -> Inference:
        model = await self.model(query.model or self.settings.default_model, query.version)
        tally.chosen(model.name, model.version, READY_MADE)
        network = model.single_network
        network.check(crops)
        left, expected = deadline - perf_counter(), network.seconds_per_crop
        with self.admission.acquire(len(crops), left, expected=expected) as permit:
            async with self.catalog.use(network, deadline, permit):
                watch = None if tally.trace is None else tally.trace.crops(network.name)
                batcher = network.model.batchers["model"]
                answer = await batcher.infer(crops, permit, deadline, self.deadlines, watch)
                if not np.isfinite(answer.outputs.probabilities).all():
                    raise Internal("the network gave no finite probabilities for these crops")
                tally.computed(len(crops), Spent(1, 0.0, answer.queue_s, answer.inference_s))
                return Inference(model.name, model.version, answer.outputs, network.labels)
