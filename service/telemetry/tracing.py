"""Traces: whether they are wanted, by OpenTelemetry's own variables, and where they begin.

Off, which is the default, a request asks a few times whether something is None, and OpenTelemetry's
SDK is not imported. On, `spans` makes a request's spans, most of them afterwards, of the times
that were taken anyway.
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
"""Where the exporter of a protocol is; the first is OpenTelemetry's default."""
FLUSH_SECONDS = 3.0
"""How long a stop waits for the last spans to be taken; before the supervisor kills who is late."""

current: ContextVar[Trace | None] = ContextVar("trace", default=None)
"""The trace of the request, or call, that this task works for."""


def wanted(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether spans are to be exported: an exporter is named, or where to send them is."""
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
        given = next(name for name in PROTOCOLS if os.environ.get(name))
        known = " or ".join(MODULES)
        raise InvalidSettingsError(f"{given}={protocol()!a}: it can be {known}")
    if not _there(module):
        raise InvalidSettingsError(
            f"{EXPORTER}={named}: OpenTelemetry's exporter is not installed (it comes with the "
            "extra `tracing`)"
        )


def protocol() -> str:
    """How OTLP is spoken."""
    given = (os.environ.get(name, "").strip() for name in PROTOCOLS)
    return next(filter(None, given), next(iter(MODULES)))


def start() -> Tracer | None:
    """Begin to trace, in a worker, which has its own exporter; None where no traces are wanted."""
    if not wanted():
        return None
    from service.telemetry import spans

    logger = logging.getLogger("opentelemetry")  # of an export that failed: in our format
    logger.handlers[:] = logging.getLogger("zoo").handlers
    logger.propagate = False
    on_console = os.environ.get(EXPORTER) == "console"
    return spans.Tracer(None if on_console else MODULES[protocol()], current)


def stop(tracer: Tracer) -> None:
    """Export what is left; blocking, for some seconds at most."""
    closing = threading.Thread(target=tracer.close, daemon=True)
    closing.start()
    closing.join(FLUSH_SECONDS)


def use_case(name: str, started: float) -> UseCase | None:
    """The span of what the data plane does for a request; None where nobody traces it."""
    trace = current.get()
    return None if trace is None else trace.use_case(name, started)


def _there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False
