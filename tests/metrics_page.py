"""docs/metrics.md as the code has it: ``python -m tests.metrics_page`` writes it."""

from __future__ import annotations

from pathlib import Path

from prometheus_client import Counter, Histogram
from prometheus_client.metrics import MetricWrapperBase

from service.telemetry import metrics
from service.telemetry.multiprocess import PROCESS_HELP

PAGE = Path(__file__).resolve().parent.parent / "docs" / "metrics.md"
HEAD = """# Metrics

`GET /metrics` is in Prometheus' text format and speaks for all workers of a service, whichever of
them answers. What a worker has counted stays counted when it dies; its gauges go with it. All label
values are bounded: a model that is not there is `unknown`. A version that is gone has no series any
more; what is labelled by the model alone stays as long as the service runs.

How to scrape, what to look at and when to be woken: [observability.md](observability.md). The table
is made from the code (`python -m tests.metrics_page`).

| metric | kind | labels | what it says |
|---|---|---|---|
"""


def rows() -> dict[str, tuple[str, str, str]]:
    """By the name that a query uses: kind, labels, help."""
    kept = [each for each in vars(metrics).values() if isinstance(each, MetricWrapperBase)]
    found = {
        _name(each): (str(each._type), _labels(each._labelnames), _help(each)) for each in kept
    }
    for name, text in PROCESS_HELP.items():
        found[name] = ("counter" if name.endswith("_total") else "gauge", "`worker`", text)
    return found


def page() -> str:
    lines = (
        f"| `{name}` | {kind} | {labels} | {text} |"
        for name, (kind, labels, text) in rows().items()
    )
    return HEAD + "\n".join(lines) + "\n"


def _name(metric: MetricWrapperBase) -> str:
    return f"{metric._name}_total" if isinstance(metric, Counter) else metric._name


def _labels(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _help(metric: MetricWrapperBase) -> str:
    buckets = ", ".join(f"{bound:g}" for bound in getattr(metric, "_upper_bounds", [])[:-1])
    return metric._documentation + (
        f" Buckets: {buckets}." if isinstance(metric, Histogram) else ""
    )


if __name__ == "__main__":
    PAGE.write_text(page())
