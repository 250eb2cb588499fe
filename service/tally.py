"""What is counted for one request, once, whatever becomes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from operator import add
from time import perf_counter
from types import TracebackType

from service import metrics, statistics, tracing
from service.errors import Internal, ZooError
from service.statistics import Spent


class Tally:
    """``with`` this around the work on a request, which tells it what it learns."""

    def __init__(self, name: str, transport: str, use_case: str = "classify") -> None:
        """``name``: the model that was asked for, or `metrics.UNKNOWN`."""
        self.started = perf_counter()
        self._name, self._transport = name, transport
        self._version = metrics.UNKNOWN
        self._protocol = metrics.UNKNOWN
        self._record: statistics.Record | None = None
        self._code = "ok"
        self._inferences = 0
        self._spent = Spent()
        self.trace = tracing.use_case(use_case, self.started)

    def chosen(self, version: str, protocol: str) -> None:
        """Which version answers, and by which protocol."""
        self._version = version
        self._record = statistics.record(self._name, version)
        self._protocol = protocol

    def computed(self, inferences: int, *seconds: float) -> None:
        """This many pictures or crops were answered; ``seconds`` are those of `Spent`."""
        self._inferences += inferences
        parts, *before = self._spent
        self._spent = Spent(parts + 1, *map(add, before, seconds))

    def pictures(self, codes: Iterable[str]) -> None:
        """The code that each picture ended with; that of a single one is the request's."""
        codes = list(codes)
        for code in codes:
            metrics.PICTURES.labels(self._name, self._protocol, self._transport, code).inc()
        self._code = codes[0] if len(codes) == 1 else "ok"

    def __enter__(self) -> Tally:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            self._code = _code(error)
        metrics.REQUESTS.labels(self._name, self._protocol, self._transport, self._code).inc()
        if self.trace is not None:
            self.trace.end(error, self._code, self._attributes())
        if self._record is None:
            return
        seconds = perf_counter() - self.started
        if self._code == "ok":
            metrics.request_seconds(self._name, self._transport).observe(seconds)
            self._record.succeeded(self._inferences, seconds, self._spent)
        else:
            self._record.failed(seconds)

    def _attributes(self) -> dict[str, str | int]:
        return {
            "zoo.model.name": self._name,
            "zoo.model.version": self._version,
            "zoo.protocol": self._protocol,
            "zoo.inferences": self._inferences,
        }


def _code(error: BaseException) -> str:
    if isinstance(error, ZooError):
        return error.code
    return "cancelled" if isinstance(error, asyncio.CancelledError) else Internal.code
