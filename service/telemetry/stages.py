"""The spans below a request's: one for what the data plane does, below that one for each stage.

A batch has a span with links to all requests that it computes for, and each of these requests'
`inference` one to the batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import TYPE_CHECKING, Any

from opentelemetry import trace as api

from service.engine.batcher import Watch
from service.errors import ServerError, ZooError

if TYPE_CHECKING:
    from service.telemetry.spans import Trace

_MOST_TEXT = 256
"""Characters of what an error tells a client."""


class UseCase:
    """What the data plane does for one request: `classify` or `infer`, and its stages."""

    def __init__(self, trace: Trace, name: str, started: float) -> None:
        self._trace = trace
        self._span = trace.begin(name, started)

    def end(self, error: BaseException | None, code: str, attributes: Mapping[str, Any]) -> None:
        """It is done; ``code`` is that of the metrics."""
        span = self._span
        span.set_attributes({"zoo.code": code, **attributes})
        if error is not None:
            fail(span, error, None)
        span.end()

    def stage(
        self,
        name: str,
        start: float,
        end: float,
        *,
        error: BaseException | None = None,
        **more: Any,
    ) -> None:
        """A stage that has been; ``more`` becomes attributes, `zoo.` before each."""
        attributes = {f"zoo.{key}": value for key, value in more.items()}
        self._trace.child(name, start, end, parent=self._span, attributes=attributes, error=error)

    def crops(self, model: str) -> Crops:
        """Crops of this request are about to be given to a model's batcher."""
        return Crops(self._trace, self._span, model)


class Crops(Watch):
    """What a batcher tells of one request's crops."""

    def __init__(self, trace: Trace, span: api.Span, model: str) -> None:
        self._trace = trace
        self._span = span
        self._model = model
        self._enqueued = perf_counter()
        self._started = 0.0
        self._batches: list[api.SpanContext] = []

    def batch(
        self, all_of_it: Sequence[Watch], crops: int, start: float, end: float, failed: bool
    ) -> None:
        """One batch was run, with crops of ``all_of_it``: the span lies in the first's trace."""
        own = [watch for watch in all_of_it if isinstance(watch, Crops)]
        made = self._trace.child(
            "batch",
            start,
            end,
            parent=self._span,
            attributes={
                "zoo.model.name": self._model,
                "zoo.batch.crops": crops,
                "zoo.batch.requests": len(own),
                **({"error.type": "internal"} if failed else {}),
            },
            links=[watch._span.get_span_context() for watch in own],
        )
        for watch in own:
            watch._started = watch._started or start
            watch._batches.append(made)

    def done(self, error: BaseException | None = None) -> None:
        """They are computed, or given up: the spans `queue` and `inference`."""
        now = perf_counter()
        started = self._started or now
        tell = self._trace.child
        attributes = {"zoo.model.name": self._model, "zoo.queue": "device"}
        lost = error if not self._started else None
        tell("queue", self._enqueued, started, parent=self._span, attributes=attributes, error=lost)
        if self._started:
            attributes = {"zoo.model.name": self._model}
            links = self._batches
            tell(
                "inference",
                started,
                now,
                parent=self._span,
                attributes=attributes,
                links=links,
                error=error,
            )


def fail(span: api.Span, error: BaseException, at: int | None) -> None:
    """Note an error as an event, and that the span failed. A ZooError's text is for clients."""
    code = error.code if isinstance(error, ZooError) else type(error).__name__
    text = error.detail[:_MOST_TEXT] if isinstance(error, ZooError) else ""
    span.add_event(
        "exception", {"exception.type": type(error).__name__, "exception.message": text}, at
    )
    span.set_attribute("error.type", code)
    if isinstance(error, ServerError) or not isinstance(error, ZooError):
        span.set_status(api.Status(api.StatusCode.ERROR, text or code))
