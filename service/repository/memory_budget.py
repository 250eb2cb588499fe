"""Computes how much memory a worker may take at most: the sum of its limits, term by term.

docs/operations.md explains each term. Measured figures are constants here; what the process and its
loaded models take is read from the system when the worker is ready.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable
from pathlib import Path
from resource import getpagesize

from service.config.settings import MEGABYTE, PREFIX, Settings
from service.engine.model import CPU_BATCH
from service.imaging.protocols import PROTOCOLS, Dense
from service.repository.network import BYTES_PER_INPUT, Network
from service.telemetry import metrics, multiprocess

logger = logging.getLogger("zoo.memory")

PICTURE_BYTES_PER_PIXEL = 20
"""Memory that decoding one picture takes. `python -m loadtests.benchmarks.decoding` measures it;
lossless WebP takes the most."""
COPIES_PER_THREAD = 3
"""How often a thread holds the bytes of the file that it decodes, at most: the file cut out of a
form, what Pillow has read (all of a WebP), and the EXIF block."""
CONNECTION_BYTES = 256 * 1024
"""64 KB each for the head, for bytes that were read ahead and for bytes that wait to be sent; the
rest is for Python's objects."""
OUTPUT_BYTES_PER_CLASS = 16
"""For one crop: a logit and a probability in float32, both held twice while they are combined."""
MARGIN = 0.1
"""Share added for fragmentation: memory that allocators hold and cannot hand out."""
BEYOND = "grpc_messages"
"""The one term that is not part of the sum; `terms` says why."""


def terms(settings: Settings, networks: Iterable[Network], base: int) -> dict[str, int]:
    """Return the most bytes that one worker takes, under the name of what takes them.

    ``networks`` are all that are served, ``base`` is the memory of the process now, in bytes.
    `grpc_messages` is not part of the sum: gRPC's library holds incoming messages where this
    service cannot count them, and the term is reached only if all calls send the largest at once.
    """
    known = list(networks)
    threads = settings.pool_threads
    inputs = [_most_inputs(network, settings) for network in known]
    crop = max((math.prod(network.crop) for network in known), default=0)
    classes = max((network.classes for network in known), default=0)
    found = {
        "base": base,
        "models": _to_be_loaded(settings, known),
        "runs": sum(threads * BYTES_PER_INPUT * each for each in inputs),
        "pictures": threads * settings.max_pixels * PICTURE_BYTES_PER_PIXEL,
        "bodies": settings.max_bodies_bytes
        + (COPIES_PER_THREAD * threads + 1) * settings.max_body_bytes,
        "queue": settings.queue_crops * (2 * crop + OUTPUT_BYTES_PER_CLASS * classes),
        "connections": 2 * settings.max_connections * CONNECTION_BYTES,
    }
    found["margin"] = int(MARGIN * (sum(found.values()) - base))
    if settings.grpc_port:
        found[BEYOND] = settings.grpc_max_calls * settings.max_body_bytes
    return found


def total(found: dict[str, int]) -> int:
    """The ceiling: the sum of all terms but `BEYOND`."""
    return sum(size for name, size in found.items() if name != BEYOND)


def announce(settings: Settings, networks: Iterable[Network]) -> None:
    """Log the ceiling of this worker in one line and set the metric of each term.

    Does nothing on a system without /proc.
    """
    base = resident_bytes()
    if not base:
        return
    found = terms(settings, networks, base)
    for name, size in found.items():
        metrics.MEMORY_CEILING.labels(name).set(size)
    parts = " + ".join(f"{name} {_mb(size)}" for name, size in found.items() if name != BEYOND)
    beyond = ""
    if BEYOND in found:
        beyond = (
            f"; not in the sum: {_mb(found[BEYOND])} MB of gRPC messages, if "
            f"{settings.grpc_max_calls:,} clients ({PREFIX}GRPC_MAX_CALLS) send the largest "
            f"message ({PREFIX}MAX_BODY_BYTES) at the same moment"
        )
    logger.info("memory ceiling of this worker: %s MB (%s)%s", _mb(total(found)), parts, beyond)
    excess = above(total(found), settings.workers, multiprocess.memory_limit())
    if excess:
        logger.warning("%s", excess)


def above(ceiling: int, count: int, limit: int) -> str:
    """Return a warning where ``count`` workers may take more than ``limit`` bytes, else ""."""
    if ceiling * count <= limit:
        return ""
    what = "the memory ceiling of this worker is"
    if count > 1:
        what = f"the memory ceilings of {count} workers add up to"
    return (
        f"{what} {_mb(ceiling * count)} MB, more than the {_mb(limit)} MB that this container or "
        "machine has: under the heaviest load the system may kill a worker. Lower "
        f"{PREFIX}THREADS, {PREFIX}MAX_PIXELS or {PREFIX}MAX_BODIES_BYTES, or allow more memory"
    )


def resident_bytes() -> int:
    """Resident memory of this process in bytes, 0 where the system does not say."""
    try:
        pages = Path("/proc/self/statm").read_text().split()[1]
    except OSError:
        return 0
    return int(pages) * getpagesize()


def _to_be_loaded(settings: Settings, networks: list[Network]) -> int:
    """Estimated bytes of the networks that are not loaded yet, within ZOO_MODEL_MEMORY_MB."""
    more = sum(network.estimated_bytes for network in networks if not network.ready)
    if not settings.model_memory_mb:
        return more
    loaded = sum(network.estimated_bytes for network in networks if network.ready)
    return max(0, min(more, settings.model_memory_mb * MEGABYTE - loaded))


def _most_inputs(network: Network, settings: Settings) -> int:
    """Values in the largest input that one run of this network can have."""
    batch = settings.of_model(network.name).max_batch or CPU_BATCH
    if network.ready:
        batch = network.model.max_batch
    most = batch * math.prod(network.crop)
    if any(PROTOCOLS[name].graph == Dense.graph for name in network.manifest.protocols.names):
        most = max(most, 2 * Dense.MAX_PIXELS * network.manifest.input.channels)
    return most


def _mb(size: int) -> str:
    return f"{size / MEGABYTE:,.0f}"
