"""Sets the metrics that follow the models and the settings."""

from __future__ import annotations

import logging
import platform
from typing import Protocol

import onnxruntime

from service import __version__
from service.config.settings import MEGABYTE, Settings
from service.errors import Forbidden, Unauthorized
from service.manifest import Precision
from service.telemetry import metrics, multiprocess, value_files, version_stats

logger = logging.getLogger("zoo.metrics")


class Running(Protocol):
    """How a loaded network computes."""

    precision: Precision | None
    """That of its weights, where the manifest says it."""
    providers: list[str]
    """By which it computes, the first for most nodes."""
    fallback: bool
    """Whether another provider computes than was wanted."""
    nodes: dict[str, int]
    """How many nodes each provider computes."""
    max_batch: int
    """Most crops in one batch."""


class ModelMetrics:
    """Sets the gauges of one worker's models."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.workers = settings.workers
        """Processes that are to serve: what holds in every worker holds in so many."""
        self.known: set[tuple[str, str]] = set()
        """Models and versions that there are; those that have been shall not be labels for ever."""
        self._info: dict[tuple[str, str], tuple[str, str]] = {}

    def begin(self) -> None:
        """A worker starts: its place, its limits, what it is made of."""
        settings = self._settings
        metrics.ADMITTED_LIMIT_CROPS.set(settings.queue_crops)
        metrics.BODY_LIMIT_BYTES.set(settings.max_bodies_bytes)
        metrics.MODEL_LIMIT_BYTES.set(settings.model_memory_mb * MEGABYTE)
        metrics.MEMORY_LIMIT_BYTES.set(multiprocess.memory_limit())
        metrics.WORKER_THREADS.set(settings.pool_threads)
        metrics.DEADLINE_SECONDS.set(settings.deadline_ms / 1e3)
        versions = (__version__, onnxruntime.__version__, platform.python_version())
        metrics.BUILD_INFO.labels(*versions).set(1)
        # a rate needs the zero before the first one
        for reason in ("queue_full", "too_late", "bodies_full"):
            metrics.REFUSALS.labels(reason)
        for reason in ("idle", "slow_head", "slow_body", "slow_reader", "room", "too_many"):
            metrics.HTTP_ENDED.labels(reason)
        for transport in ("http", "grpc"):
            for code in (Unauthorized.code, Forbidden.code):
                metrics.ACCESS_REFUSALS.labels(transport, code)
        _write_down()

    def version(
        self, name: str, number: str, state: str, running: Running | None = None, size: int = 0
    ) -> None:
        """Set what there is to say of a version now.

        ``running`` where it is a network and loaded; ``size`` is then the estimate of the bytes
        of memory that it takes.
        """
        key = name, number
        if key not in self.known:
            _count_from_zero(name)
            self.known.add(key)
        metrics.labelled.add(key)
        metrics.MODEL_READY.labels(*key).set(int(state == "ready"))
        metrics.MODEL_REFUSED.labels(*key).set(int(state == "refused"))
        metrics.MODEL_BYTES.labels(*key).set(0 if running is None else size)
        metrics.MODEL_FALLBACK.labels(*key).set(int(running is not None and running.fallback))
        if running is None:
            self._inform(key, None)
            return
        self._inform(key, (running.providers[0], running.precision or metrics.UNKNOWN))
        metrics.MODEL_MAX_BATCH.labels(*key).set(running.max_batch)
        for provider, nodes in running.nodes.items():
            metrics.MODEL_NODES.labels(*key, provider).set(nodes)

    def only(self, versions: set[tuple[str, str]]) -> None:
        """There are no other models and versions than these."""
        for key in self.known - versions:
            self.version(*key, "unloaded")
        self.known.intersection_update(versions)
        # all that have labels, not those that just went: what a request had begun was counted since
        if gone := metrics.labelled - versions:
            metrics.forget(gone)
        version_stats.only(versions)

    def _inform(self, key: tuple[str, str], now: tuple[str, str] | None) -> None:
        """Say by which provider and precision a version answers; `exporter` leaves out what was
        said before, which is 0.
        """
        before = self._info.pop(key, None)
        if before not in (None, now):
            metrics.MODEL_INFO.labels(*key, *before).set(0)
        if now is not None:
            self._info[key] = now
            metrics.MODEL_INFO.labels(*key, *now).set(1)


def _write_down() -> None:
    """Have all that is counted, by now and from now on, in files that the workers share."""
    folder = value_files.shared_folder()
    if folder is not None:
        try:
            value_files.begin(folder, multiprocess.place())
        except OSError as error:
            logger.error("nobody will know what this worker counts: %s", error)
            return
    metrics.WORKER_STARTS.labels(str(multiprocess.place())).inc()


def _count_from_zero(name: str) -> None:
    for reason in ("cancelled", "expired"):
        metrics.DROPPED.labels(name, reason)
    for result in ("ok", "refused", "no_room", "failed"):
        metrics.MODEL_LOADS.labels(name, result)
    for counter in (metrics.RETRIED, metrics.MODEL_SWAPS, metrics.MODEL_EVICTIONS):
        counter.labels(name)


class ModelObserver:
    """Writes down what the batcher of one model does; it is called from any thread."""

    def __init__(self, model: str, version: str) -> None:
        self._model = model
        self._record = version_stats.record(model, version)
        self._batch = metrics.BATCH_CROPS.labels(model)
        self._seconds = metrics.BATCH_SECONDS.labels(model)
        self._waiting = metrics.QUEUE_CROPS.labels(model)

    @metrics.harmless
    def ran(self, crops: int, input_s: float, infer_s: float) -> None:
        """A batch of this many crops was run: seconds to put it together, and to compute it."""
        self._batch.observe(crops)
        self._record.ran(crops, input_s, infer_s)
        self._seconds.observe(infer_s)

    @metrics.harmless
    def failed(self, crops: int) -> None:
        """The device could not run a batch of this many crops."""
        self._batch.observe(crops)

    @metrics.harmless
    def dropped(self, reason: str) -> None:
        """A request left the queue unanswered: `cancelled` or `expired`."""
        metrics.DROPPED.labels(self._model, reason).inc()

    @metrics.harmless
    def retried(self, requests: int) -> None:
        """A batch failed; its parts, of this many requests, are run one by one."""
        metrics.RETRIED.labels(self._model).inc()

    @metrics.harmless
    def waiting(self, crops: int) -> None:
        """The number of crops that wait has changed by ``crops``, which may be negative."""
        self._waiting.inc(crops)
