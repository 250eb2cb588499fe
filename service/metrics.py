"""Prometheus metrics, correct over several worker processes.

BentoML gives its workers a common PROMETHEUS_MULTIPROC_DIR and empties it at start. Each worker
writes there and any of them answers a scrape for all. Label values are bounded: models and
protocols that exist, codes of our error family, `unknown` for what a client made up.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    multiprocess,
    values,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from service import statistics
from service.statistics import shared_folder

if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
    # prometheus-client asks for the process' id, a system call, at every increment; a worker
    # imports this after it has been forked and does not fork itself
    _PID = os.getpid()
    values.ValueClass = values.MultiProcessValue(lambda: _PID)  # type: ignore[no-untyped-call]

CONTENT_TYPE = CONTENT_TYPE_LATEST
UNKNOWN = "unknown"

_SECONDS = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1),
    *(0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
)
_CROPS = (1, 2, 4, 8, 16, 32, 64, 128, 256)

REQUESTS = Counter(
    "zoo_requests",
    "Requests for a classification, by the code they ended with (ok, or a code of docs/api.md).",
    ["model", "protocol", "transport", "code"],
)
ACCESS_REFUSALS = Counter(
    "zoo_access_refusals",
    "Requests of any kind that were refused for their key, by code: unauthorized or forbidden.",
    ["transport", "code"],
)
PICTURES = Counter(
    "zoo_pictures",
    "Pictures of these requests, by the code each ended with; a form may hold several.",
    ["model", "protocol", "transport", "code"],
)
STAGE_SECONDS = Histogram(
    "zoo_stage_seconds",
    "Seconds that a picture spent in a stage: decode, preprocess, queue, inference, total.",
    ["model", "stage"],
    buckets=_SECONDS,
)
BATCH_CROPS = Histogram(
    "zoo_batch_crops", "Crops in a batch that went to the device.", ["model"], buckets=_CROPS
)
QUEUE_CROPS = Gauge(
    "zoo_queue_crops",
    "Crops that wait for the device now, over all workers.",
    ["model"],
    multiprocess_mode="livesum",
)
ADMITTED_CROPS = Gauge(
    "zoo_admitted_crops",
    "Crops accepted and not yet answered, over all workers; ZOO_QUEUE_CROPS bounds each worker's.",
    multiprocess_mode="livesum",
)
BODY_BYTES = Gauge(
    "zoo_body_bytes",
    "Bytes of request bodies that are held now, over all workers; ZOO_MAX_BODIES_BYTES bounds "
    "each worker's.",
    multiprocess_mode="livesum",
)
MEMORY_CEILING = Gauge(
    "zoo_memory_ceiling_bytes",
    "Most bytes that the workers take together, by term (docs/operations.md); grpc_messages is "
    "what may come on top while messages arrive.",
    ["term"],
    multiprocess_mode="livesum",
)
HTTP_CONNECTIONS = Gauge(
    "zoo_http_connections",
    "HTTP connections that are open now, over all workers; ZOO_MAX_CONNECTIONS bounds each "
    "worker's.",
    multiprocess_mode="livesum",
)
HTTP_ENDED = Counter(
    "zoo_http_connections_ended",
    "HTTP connections that the service ended, by reason: idle, slow_head, slow_body, slow_reader "
    "(the client leaves its answer), room (closed for a newer one, it had sent no request), "
    "too_many (turned away).",
    ["reason"],
)
DROPPED = Counter(
    "zoo_dropped_requests",
    "Requests that left the queue before the device: the client had left (cancelled), or the "
    "deadline had passed (expired).",
    ["model", "reason"],
)
RETRIED = Counter(
    "zoo_retried_batches",
    "Batches that failed and whose parts were then run one by one.",
    ["model"],
)
MODEL_READY = Gauge(
    "zoo_model_ready",
    "1 when this version is loaded and warmed up in every worker, else 0: it was refused, or some "
    "worker loads it on its first use.",
    ["model", "version"],
    multiprocess_mode="livemin",
)
MODEL_NODES = Gauge(
    "zoo_model_nodes",
    "Nodes of the model's graph that an execution provider computes; cpu beside cuda is normal for "
    "a few, all on cpu means that no GPU is used.",
    ["model", "version", "provider"],
    multiprocess_mode="livemax",
)
MODEL_MAX_BATCH = Gauge(
    "zoo_model_max_batch",
    "Most crops in one batch of this model; it falls when the device runs out of memory.",
    ["model", "version"],
    multiprocess_mode="livemin",
)
MODEL_BYTES = Gauge(
    "zoo_model_bytes",
    "Estimate of the memory that this version takes now, over all workers; ZOO_MODEL_MEMORY_MB "
    "bounds each worker's sum.",
    ["model", "version"],
    multiprocess_mode="livesum",
)
MODEL_LOADS = Counter(
    "zoo_model_loads",
    "Loads of a model, by result: ok, refused (its files are broken), no_room "
    "(ZOO_MODEL_MEMORY_MB), failed (for now: the next request tries again).",
    ["model", "result"],
)
MODEL_SWAPS = Counter(
    "zoo_model_swaps",
    "Times that a loaded version took over from a loaded one, counted in each worker.",
    ["model"],
)
MODEL_EVICTIONS = Counter(
    "zoo_model_evictions",
    "Idle models that were unloaded to make room for another.",
    ["model"],
)


_OF_VERSIONS = ("zoo_model_ready", "zoo_model_nodes", "zoo_model_max_batch", "zoo_model_bytes")
_versions: set[tuple[str, str]] = set()
"""Models and versions that there are; those that have been shall not be labels for ever."""


def version(name: str, number: str, *, ready: bool, size: int) -> None:
    """A version is loaded or not, and takes this many bytes now, by an estimate."""
    _versions.add((name, number))
    MODEL_READY.labels(name, number).set(int(ready))
    MODEL_BYTES.labels(name, number).set(size)


def only(versions: set[tuple[str, str]]) -> None:
    """There are no other models and versions than these."""
    for name, number in _versions - versions:
        version(name, number, ready=False, size=0)
    _versions.intersection_update(versions)


@lru_cache(maxsize=1024)
def stage_seconds(model: str, stage: str) -> Histogram:
    """The histogram of one stage; to look it up among all takes longer than to add to it."""
    return STAGE_SECONDS.labels(model, stage)


class ModelObserver:
    """Writes down what the batcher of one model does."""

    def __init__(self, model: str, version: str) -> None:
        self._model = model
        self._record = statistics.record(model, version)
        self._batch = BATCH_CROPS.labels(model)
        self._waiting = QUEUE_CROPS.labels(model)

    def batch(self, crops: int) -> None:
        """A batch of this many crops goes to the device."""
        self._batch.observe(crops)

    def ran(self, crops: int, input_s: float, infer_s: float) -> None:
        """It was run: seconds to put its crops together, and to compute them."""
        self._record.ran(crops, input_s, infer_s)

    def dropped(self, reason: str) -> None:
        """A request left the queue unanswered: `cancelled` or `expired`."""
        DROPPED.labels(self._model, reason).inc()

    def retried(self, requests: int) -> None:
        """A batch failed; its parts, of this many requests, are run one by one."""
        RETRIED.labels(self._model).inc()

    def waiting(self, crops: int) -> None:
        """This many crops more wait now, or fewer."""
        self._waiting.inc(crops)


def exposition() -> bytes:
    """All metrics of all workers in Prometheus' text format."""
    folder = shared_folder()
    registry = CollectorRegistry()
    if folder is None:
        registry.register(_OfToday(REGISTRY))
        return generate_latest(registry)
    _forget_dead_workers(folder)
    # prometheus-client has no type hints here
    registry.register(_OfToday(multiprocess.MultiProcessCollector(None)))  # type: ignore[no-untyped-call]
    return generate_latest(registry)


class _OfToday:
    """What is collected, without the versions that are gone: its files forget nothing."""

    def __init__(self, collected: Collector) -> None:
        self._collected = collected

    def collect(self) -> Iterator[Metric]:
        for metric in self._collected.collect():
            if metric.name in _OF_VERSIONS:
                metric.samples = [
                    sample
                    for sample in metric.samples
                    if (sample.labels["model"], sample.labels["version"]) in _versions
                ]
            yield metric


def forget_this_worker() -> None:
    """Take this process' live gauges out, at its orderly end."""
    if shared_folder() is not None:
        multiprocess.mark_process_dead(os.getpid())  # type: ignore[no-untyped-call]


def _forget_dead_workers(folder: Path) -> None:
    """Take out the live gauges of workers that were killed."""
    for path in folder.glob("gauge_live*_*.db"):
        pid = path.stem.rpartition("_")[2]
        if pid.isdigit() and not Path(f"/proc/{pid}").exists() and Path("/proc/self").exists():
            with suppress(OSError):
                path.unlink()
