"""What is counted for one request, once, whatever becomes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from time import perf_counter, time

from service.errors import Internal, ZooError
from service.telemetry import facts, metrics, tracing, version_stats
from service.telemetry.version_stats import Spent


class RequestMetrics:
    """``with`` this around the work on a request, which tells it what it learns."""

    __slots__ = (
        *("_code", "_codes", "_inferences", "_name", "_pictures", "_protocol", "_record"),
        *("_spent", "_transport", "_version", "started", "trace"),
    )

    def __init__(self, name: str, transport: str, use_case: str = "classify") -> None:
        """``name``: the model that was asked for, or `metrics.UNKNOWN`."""
        self.started = perf_counter()
        self._name, self._transport = name, transport
        self._version = metrics.UNKNOWN
        self._protocol = metrics.UNKNOWN
        self._record: version_stats.Record | None = None
        self._code = "ok"
        self._codes: list[str] = []
        self._inferences = 0
        self._spent: list[Spent] = []
        self._pictures: list[tuple[dict[str, float], float]] = []
        self.trace = tracing.use_case(use_case, self.started)

    def chosen(self, name: str, version: str, protocol: str) -> None:
        """Which model and version answer, and by which protocol."""
        self._name, self._version, self._protocol = name, version, protocol
        self._record = version_stats.record(name, version)
        facts.note(model=name, version=version, protocol=protocol)

    def picture(self, stages: dict[str, float], combine_s: float) -> None:
        """One was answered; ``stages`` are the seconds of `zoo_stage_seconds`."""
        self._inferences += 1
        self._pictures.append((stages, combine_s))

    def computed(self, inferences: int, spent: Spent) -> None:
        """This many pictures or crops were answered."""
        self._inferences += inferences
        self._spent.append(spent)

    def pictures(self, codes: Iterable[str]) -> None:
        """The code that each picture ended with; that of a single one is the request's."""
        self._codes = codes = list(codes)
        self._code = codes[0] if len(codes) == 1 else "ok"

    def __enter__(self) -> RequestMetrics:
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        ended = perf_counter()
        if error is not None:
            self._code = _code(error)
        if self.trace is not None:
            self.trace.end(error, self._code, self._attributes())
        self._count(ended)

    @metrics.harmless
    def _count(self, ended: float) -> None:
        """Write it all down; ``ended`` by ``time.perf_counter``."""
        how = self._protocol, self._transport
        for code in self._codes:
            metrics.series(metrics.PICTURES, self._name, *how, code).inc()
        metrics.requests(self._name, self._version, *how, self._code).inc()
        for stages, combine_s in self._pictures:
            for stage, seconds in stages.items():
                metrics.series(metrics.STAGE_SECONDS, self._name, stage).observe(seconds)
            given = stages["decode"] + stages["preprocess"]
            self._spent.append(Spent(1, given, stages["queue"], stages["inference"], combine_s))
        if self._record is None:
            return
        seconds = ended - self.started
        if self._code == "ok":
            metrics.series(metrics.REQUEST_SECONDS, self._name, self._transport).observe(seconds)
            spent = Spent(*map(sum, zip(*self._spent, strict=True)))
            self._record.succeeded(self._inferences, seconds, spent, time())
        else:
            self._record.failed(seconds)

    def _attributes(self) -> dict[str, str | int]:
        return {
            "zoo.model.name": self._name,
            "zoo.model.version": self._version,
            "zoo.protocol": self._protocol,
            "zoo.inferences": self._inferences,
        }


class Reading:
    """``with`` this while a transport reads a request: one that ends before it is read is counted.

    From `done` on the data plane counts it.
    """

    __slots__ = ("_done", "_gone", "_transport")

    def __init__(self, transport: str, gone: type[BaseException] | None = None) -> None:
        """``gone``: what the transport raises where the client has left."""
        self._transport = transport
        self._gone = gone
        self._done = False

    def done(self) -> None:
        """The request is read and handed on."""
        self._done = True

    def __enter__(self) -> Reading:
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if self._done:
            return
        if isinstance(error, ZooError):
            refused(self._transport, error.code)
        elif self._gone is not None and isinstance(error, self._gone):
            refused(self._transport, "cancelled")


def refused(transport: str, code: str) -> None:
    """Count a request that ended before it was read, so that nobody knows its model."""
    unknown = metrics.UNKNOWN
    metrics.REQUESTS.labels(unknown, unknown, unknown, transport, code).inc()


def _code(error: BaseException) -> str:
    if isinstance(error, ZooError):
        return error.code
    return "cancelled" if isinstance(error, asyncio.CancelledError) else Internal.code
