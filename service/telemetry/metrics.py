"""Every Prometheus metric that the service keeps: what it counts, in which unit, when to worry.

Label values are bounded: models and protocols that exist, codes of our error family, `unknown` for
what a client made up. `model_metrics` sets the gauges of models, `request_metrics` counts requests,
`exporter` writes all metrics.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Set
from functools import lru_cache, partial, wraps
from typing import ParamSpec, TypeVar

from prometheus_client import Counter, Gauge, Histogram, values

from service.telemetry import value_files

if value_files.shared_folder() is not None:
    values.ValueClass = value_files.Value
    # it warns and removes its own record of the series; `value_files.forget` removes the value
    warnings.filterwarnings("ignore", "Removal of labels has not been implemented", UserWarning)

logger = logging.getLogger("zoo.metrics")

P = ParamSpec("P")
M = TypeVar("M", Counter, Histogram)
UNKNOWN = "unknown"

_SECONDS = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1),
    *(0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
)
_CROPS = (1, 2, 4, 8, 16, 32, 64, 128, 256)

_sum = partial(Gauge, multiprocess_mode="livesum")
_most = partial(Gauge, multiprocess_mode="livemax")
_least = partial(Gauge, multiprocess_mode="livemin")
"""Gauges of which all living workers' values are added up, or the most or the least is shown."""

REQUESTS = Counter(
    "zoo_requests",
    "Requests for a classification, by the code they ended with: ok, a code of docs/api.md, or "
    "cancelled (the client left). A form, an inference request and each message of a stream count "
    "as one. version is the one that answered, or was to; unknown where the request was refused "
    "before that was clear. Worry about internal at all, and about overloaded or deadline_exceeded "
    "that stay.",
    ["model", "version", "protocol", "transport", "code"],
)
REQUEST_SECONDS = Histogram(
    "zoo_request_seconds",
    "Seconds from when a request was read until its answer was ready to be written, of requests "
    "that ended with ok. The latency objective is about these; refusals are fast and not in it.",
    ["model", "transport"],
    buckets=_SECONDS,
)
REFUSALS = Counter(
    "zoo_overload_refusals",
    "Requests refused with overloaded, by reason: queue_full (ZOO_QUEUE_CROPS), too_late (what "
    "waits already takes longer than the request's deadline), bodies_full (ZOO_MAX_BODIES_BYTES). "
    "Worry when it lasts: more replicas, or fewer requests, are needed.",
    ["reason"],
)
ACCESS_REFUSALS = Counter(
    "zoo_access_refusals",
    "Requests of any kind that were refused for their key, by code: unauthorized or forbidden. "
    "Worry about a sudden rise: a key was changed, or somebody guesses.",
    ["transport", "code"],
)
PICTURES = Counter(
    "zoo_pictures",
    "Pictures of these requests, by the code each ended with; a form may hold several. "
    "undecodable_picture and the like are the clients' doing.",
    ["model", "protocol", "transport", "code"],
)
STAGE_SECONDS = Histogram(
    "zoo_stage_seconds",
    "Seconds that a picture which was answered spent in a stage: decode, preprocess, queue (for a "
    "thread and for the device together), inference, and total since its request was read. Worry "
    "when queue is most of total.",
    ["model", "stage"],
    buckets=_SECONDS,
)
BATCH_CROPS = Histogram(
    "zoo_batch_crops",
    "Crops in a batch that went to the device, before any padding. On a GPU small batches under "
    "much load mean that the device does not get enough to do.",
    ["model"],
    buckets=_CROPS,
)
BATCH_SECONDS = Histogram(
    "zoo_batch_seconds",
    "Seconds that the device needed for a batch; the rate of the sum is how many batches it "
    "computes at a time on average. Worry when it rises at the same batch size: the device is "
    "throttled or shared.",
    ["model"],
    buckets=_SECONDS,
)
QUEUE_CROPS = _sum(
    "zoo_queue_crops",
    "Crops that are cut and wait for the device now, over all workers. This is not what "
    "ZOO_QUEUE_CROPS limits: that is zoo_admitted_crops.",
    ["model"],
)
ADMITTED_CROPS = _sum(
    "zoo_admitted_crops",
    "Crops accepted and not yet answered, over all workers. Worry when it stays near "
    "zoo_admitted_limit_crops: what comes beyond is refused. Replicas are best scaled by this.",
)
ADMITTED_LIMIT_CROPS = _sum(
    "zoo_admitted_limit_crops",
    "The most that zoo_admitted_crops can be: ZOO_QUEUE_CROPS of every worker.",
)
BODY_BYTES = _sum(
    "zoo_body_bytes",
    "Bytes of request bodies that are held now, over all workers. Worry when it stays near "
    "zoo_body_limit_bytes: clients are slow, or send more than is computed.",
)
BODY_LIMIT_BYTES = _sum(
    "zoo_body_limit_bytes",
    "The most that zoo_body_bytes can be: ZOO_MAX_BODIES_BYTES of every worker.",
)
MEMORY_CEILING = _sum(
    "zoo_memory_ceiling_bytes",
    "Most bytes that the workers take together, by term (docs/operations.md); grpc_messages is "
    "what may come on top while messages arrive. Worry when the sum is above "
    "zoo_memory_limit_bytes: the limits allow more than there is.",
    ["term"],
)
HTTP_CONNECTIONS = _sum(
    "zoo_http_connections",
    "HTTP connections that are open now, over all workers; ZOO_MAX_CONNECTIONS bounds each "
    "worker's. Worry when it stays there: clients do not close, or do not reuse them.",
)
HTTP_ENDED = Counter(
    "zoo_http_connections_ended",
    "HTTP connections that the service ended, by reason: idle, slow_head, slow_body, slow_reader "
    "(the client leaves its answer), room (closed for a newer one, it had sent no request), "
    "too_many (turned away). idle is normal; worry about the others when they rise.",
    ["reason"],
)
DROPPED = Counter(
    "zoo_dropped_requests",
    "Pictures, or requests of ready-made crops, that were given up before the device: their "
    "client had left (cancelled), or the deadline had passed (expired). Worry about expired: work "
    "is accepted that comes too late.",
    ["model", "reason"],
)
RETRIED = Counter(
    "zoo_retried_batches",
    "Batches that failed and whose parts were then run one by one. Worry about any: the log has "
    "the reason.",
    ["model"],
)
READY = _sum(
    "zoo_ready",
    "1 when the default model answers in every worker, as /readyz says, else 0. Worry about 0 "
    "for longer than a start takes.",
)
MODEL_READY = _sum(
    "zoo_model_ready",
    "1 when this version is loaded and warmed up in every worker, else 0: it was refused, or some "
    "worker loads it on its first use.",
    ["model", "version"],
)
MODEL_REFUSED = _most(
    "zoo_model_refused",
    "1 when a worker refuses this version, else 0: its files are broken, or an execution provider "
    "that was demanded is missing. Worry about 1: /readyz and the log say why.",
    ["model", "version"],
)
MODEL_INFO = _most(
    "zoo_model_info",
    "Always 1: how this version is computed. provider is the execution provider that comes first "
    "in its session, precision that of its file.",
    ["model", "version", "provider", "precision"],
)
MODEL_FALLBACK = _most(
    "zoo_model_fallback",
    "1 when this version is computed by another execution provider than the first one that was "
    "named, or that auto would choose, else 0. Worry about 1: a GPU may be lost or too full, and "
    "the CPU does its work.",
    ["model", "version"],
)
MODEL_NODES = _most(
    "zoo_model_nodes",
    "Nodes of the model's graph that an execution provider computes; cpu beside cuda is normal for "
    "a few, all on cpu means that no GPU is used.",
    ["model", "version", "provider"],
)
MODEL_MAX_BATCH = _least(
    "zoo_model_max_batch",
    "Most crops in one batch of this version; where workers differ, the least of theirs. Worry "
    "when it falls: the device ran out of memory.",
    ["model", "version"],
)
MODEL_BYTES = _sum(
    "zoo_model_bytes",
    "Estimate of the bytes of memory that this version takes now, over all workers; their sum is "
    "bounded by zoo_model_limit_bytes where that is not 0.",
    ["model", "version"],
)
MODEL_LIMIT_BYTES = _sum(
    "zoo_model_limit_bytes",
    "Bytes of memory that models may take by estimate: ZOO_MODEL_MEMORY_MB of every worker; 0: "
    "no limit.",
)
MEMORY_LIMIT_BYTES = _least(
    "zoo_memory_limit_bytes",
    "Bytes of memory that all processes here may take together: what the container is allowed, or "
    "what the machine has. Worry when the sum of process_resident_memory_bytes comes near.",
)
MODEL_LOADS = Counter(
    "zoo_model_loads",
    "Loads of a model, by result: ok, refused (its files are broken), no_room "
    "(ZOO_MODEL_MEMORY_MB), failed (for now: the next request tries again). Worry about all but "
    "ok, and about ok that goes on: models push each other out.",
    ["model", "result"],
)
MODEL_SWAPS = Counter(
    "zoo_model_swaps",
    "Times that a loaded version took over from a loaded one, counted in each worker.",
    ["model"],
)
MODEL_EVICTIONS = Counter(
    "zoo_model_evictions",
    "Idle models that were unloaded to make room for another. Worry when it goes on: "
    "ZOO_MODEL_MEMORY_MB is too small for what is asked for.",
    ["model"],
)
WORKER_STARTS = Counter(
    "zoo_worker_starts",
    "Processes that began to serve, by place: worker 0 to ZOO_WORKERS - 1 keeps its number when "
    "its process is replaced. Worry about more than one each: a worker died; the log has why.",
    ["worker"],
)
WORKER_THREADS = _sum(
    "zoo_worker_threads",
    "Threads that decode pictures and run networks, over all workers (ZOO_THREADS). With "
    "zoo_stage_seconds: how busy they are.",
)
DEADLINE_SECONDS = _least(
    "zoo_deadline_seconds",
    "Seconds that a request has at most (ZOO_DEADLINE_MS).",
)
CERTIFICATE_EXPIRY = _least(
    "zoo_tls_certificate_expiry_timestamp_seconds",
    "When the certificate that was read at start expires, in seconds since 1970; 0: it had "
    "expired then. Only with ZOO_TLS_CERT. Worry weeks before: a new one needs a restart.",
    ["file"],
)
BUILD_INFO = _most(
    "zoo_build_info",
    "Always 1: the versions of the service and of what it computes with. Two values at a time are "
    "two releases side by side.",
    ["version", "onnxruntime", "python"],
)


def refused(reason: str) -> None:
    """Count a request that is refused with overloaded, by its ``reason``."""
    REFUSALS.labels(reason).inc()


@lru_cache(maxsize=4096)
def series(metric: M, *labels: str) -> M:
    """Return a metric's series with these labels, cached: to look it up takes longer than to add
    to it.
    """
    return metric.labels(*labels)


@lru_cache(maxsize=1024)
def requests(model: str, version: str, protocol: str, transport: str, code: str) -> Counter:
    """Return the counter of requests with these labels, cached likewise."""
    if version != UNKNOWN:
        labelled.add((model, version))
    return REQUESTS.labels(model, version, protocol, transport, code)


OF_VERSIONS = (
    *(REQUESTS, MODEL_READY, MODEL_REFUSED, MODEL_INFO),
    *(MODEL_FALLBACK, MODEL_NODES, MODEL_MAX_BATCH, MODEL_BYTES),
)
"""The metrics with the labels `model` and `version`."""


labelled: set[tuple[str, str]] = set()
"""Pairs of model and version of which those metrics may have series."""


def forget(gone: Set[tuple[str, str]]) -> None:
    """Drop every series of these (model, version), since each new version would take memory.

    Their counts stay in the files that the workers share; `exporter` leaves them out.
    """
    for family in OF_VERSIONS:
        for metric in family.collect():
            for sample in metric.samples:
                labels = sample.labels
                if (labels["model"], labels["version"]) in gone:
                    family.remove(*labels.values())
    requests.cache_clear()
    value_files.forget(gone)
    labelled.difference_update(gone)


def harmless(write: Callable[P, None]) -> Callable[P, None]:
    """Make a function that counts something log what it raises: an answer does not depend on it."""

    @wraps(write)
    def counted(*arguments: P.args, **options: P.kwargs) -> None:
        try:
            write(*arguments, **options)
        except Exception:
            logger.exception("what was to be counted cannot be written")

    return counted
