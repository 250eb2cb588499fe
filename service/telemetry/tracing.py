"""Switches traces on or off, by OpenTelemetry's own variables, and starts them in a worker.

They are off by default: then OpenTelemetry's SDK is not imported, and a request costs a few
comparisons with None. Where they are on, `spans` makes a request's spans, most of them afterwards,
from times that are taken anyway.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Mapping
from contextvars import ContextVar
from importlib.util import find_spec
from typing import TYPE_CHECKING

from service.config.settings import InvalidSettingsError

if TYPE_CHECKING:
    from service.telemetry.spans import Trace, Tracer, UseCase

EXPORTER = "OTEL_TRACES_EXPORTER"
ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
MODULES = {
    "http/protobuf": "opentelemetry.exporter.otlp.proto.http.trace_exporter",
    "grpc": "opentelemetry.exporter.otlp.proto.grpc.trace_exporter",
}
"""The exporter's module by the protocol of OTLP; the first is OpenTelemetry's default."""
FLUSH_SECONDS = 3.0
"""How long a stop waits for the collector to take the last spans. It is less than the time after
which the supervisor kills a worker."""

current: ContextVar[Trace | None] = ContextVar("trace", default=None)
"""The trace of the request or call that the current task works for."""


def wanted(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether spans are to be exported: an exporter is named, or an endpoint to send them to."""
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    named = environment.get(EXPORTER, "").strip()
    return named != "none" if named else any(map(environment.get, ENDPOINTS))


def demand() -> None:
    """Raise InvalidSettingsError where traces are wanted and cannot be exported."""
    if not wanted():
        return
    named = os.environ.get(EXPORTER, "").strip() or "otlp"
    if named not in ("otlp", "console"):
        raise InvalidSettingsError(f"{EXPORTER}={named!a}: it can be otlp, console or none")
    module = MODULES.get(protocol()) if named == "otlp" else "opentelemetry.sdk.trace"
    if module is None:
        variable = next(name for name in PROTOCOLS if os.environ.get(name))
        known = " or ".join(MODULES)
        raise InvalidSettingsError(f"{variable}={protocol()!a}: it can be {known}")
    if not _installed(module):
        raise InvalidSettingsError(
            f"{EXPORTER}={named}: OpenTelemetry's exporter is not installed (it comes with the "
            "extra `tracing`)"
        )


def protocol() -> str:
    """Return the protocol of OTLP that the environment names, else OpenTelemetry's default."""
    named = (os.environ.get(name, "").strip() for name in PROTOCOLS)
    return next(filter(None, named), next(iter(MODULES)))


def start() -> Tracer | None:
    """Start this worker's own exporter and return its tracer; None where traces are off."""
    if not wanted():
        return None
    from service.telemetry import spans

    logger = logging.getLogger("opentelemetry")  # it logs exports that fail: in our format
    logger.handlers[:] = logging.getLogger("zoo").handlers
    logger.propagate = False
    on_console = os.environ.get(EXPORTER) == "console"
    return spans.Tracer(None if on_console else MODULES[protocol()], current)


def stop(tracer: Tracer) -> None:
    """Export the spans that are left. Blocks for `FLUSH_SECONDS` at most."""
    closing = threading.Thread(target=tracer.close, daemon=True)
    closing.start()
    closing.join(FLUSH_SECONDS)


def use_case(name: str, started: float) -> UseCase | None:
    """Begin the span of a use case, ``started`` by ``time.perf_counter``.

    Returns None where the current task's request is not traced.
    """
    trace = current.get()
    return None if trace is None else trace.use_case(name, started)


def _installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False
