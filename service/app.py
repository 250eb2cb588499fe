"""Wiring: settings, start and stop, what serves in which process.

BentoML says how a worker is started and hands every request to the mounted app; the supervisor of
`service.supervision` starts the workers and owns the socket. BentoML's metrics and access log are
off, because ours say the same with bounded labels.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import TYPE_CHECKING, Any, cast

import bentoml
import uvicorn.config

from service.config import paths, settings
from service.engine import strict_check
from service.supervision import internals, scratch, sockets, supervisor, worker
from service.telemetry import logs, tracing
from service.transports import tls

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from service.dataplane.dataplane import DataPlane
    from service.supervision.life import Life
    from service.telemetry.spans import Tracer
    from service.transports.base import Transport
    from service.transports.http.server import HttpServer

try:
    _settings = settings.load()
    sockets.demand(_settings)
    tracing.demand()
    if sys.argv[1:2] == ["serve"]:  # the parent, which asks once for all workers
        strict_check.demand(_settings)
        scratch.hold(paths.bentoml_home())  # before BentoML empties it
except settings.InvalidSettingsError as invalid:
    sys.exit(f"bad setting {invalid}")

if sys.argv[1:2] == ["serve"]:  # the parent
    internals.demand()
    supervisor.install(_settings)

BENTOML_TIMEOUT_MARGIN_S = 10
"""BentoML's own time-out answers without a problem document, so ours must come first."""


class _Worker:
    """The ASGI app of a worker process.

    The parent process imports this module as well, only to supervise: what serves is imported
    when a worker starts.
    """

    plane: DataPlane
    life: Life
    http: HttpServer

    def __init__(self) -> None:
        self.tracer: Tracer | None = None
        self.transports: list[Transport] = []

    async def start(self) -> None:
        from service.dataplane.dataplane import DataPlane
        from service.engine.allocator import return_large_blocks
        from service.repository import memory_budget
        from service.supervision.life import Life
        from service.telemetry.model_metrics import ModelMetrics
        from service.transports import certificate
        from service.transports.http.server import HttpServer

        logs.configure(_settings)
        self.tracer = tracing.start()
        return_large_blocks()
        for name in settings.unknown_variables():
            logging.getLogger("zoo").warning("%s is not a setting of this service", name)
        self.plane = DataPlane(_settings, ModelMetrics(_settings))
        self.life = Life(_settings, worker.orders, self.plane.leave, self.transports)
        if _settings.grpc_port:
            from service.transports.grpc.server import GrpcServer

            self.transports.append(GrpcServer(self.plane, self.tracer))
        self.http = HttpServer(self.plane, self.tracer, worker.listen, self.life.end)
        self.transports.append(self.http)
        self.life.begin()
        certificate.record_expiry(_settings)
        await self.plane.start()
        memory_budget.announce(_settings, self.plane.catalog.networks())
        for each in self.transports:
            await each.start()
        worker.serves.set()
        self.life.ready()

    async def stop(self) -> None:
        await self.life.closed()
        await self.plane.stop()
        if self.tracer is not None:
            await asyncio.to_thread(tracing.stop, self.tracer)
        self.life.over()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.http.app(scope, receive, send)


_worker = _Worker()
# what uvicorn takes where nothing else is asked for, as by BentoML; a later one may not look here
cast(Any, uvicorn.config).HTTP_PROTOCOLS["auto"] = lambda **given: _worker.http.connection(**given)


def warm_up() -> None:
    """Import what serves and compile what is compiled; a worker does so before it is needed."""
    import service.dataplane.dataplane
    import service.transports.grpc.server
    import service.transports.http.app
    import service.transports.http.protocol  # noqa: F401
    from service.imaging import kernels

    if kernels.available():
        kernels.kernels()


class Bypass:
    """Middleware: every request goes past BentoML's router and past its other middleware.

    BentoML's router serves some paths itself. Its OpenTelemetry middleware takes a part of every
    request even without an exporter, and its time-out leaves a timer behind for each, which the
    garbage collector walks: stalls of 100 ms and more. So when the application starts, a switch
    is put in front of all of it; until then, and should a later BentoML start otherwise, requests
    are switched here, behind that middleware.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            application = scope["app"]
            application.middleware_stack = _Switch(application.middleware_stack)
        await _Switch(self.app)(scope, receive, send)


class _Switch:
    """Requests to our worker, everything else to BentoML."""

    def __init__(self, bentoml_app: ASGIApp) -> None:
        self.bentoml_app = bentoml_app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await (_worker if scope["type"] == "http" else self.bentoml_app)(scope, receive, send)


@bentoml.service(
    name="imagenet_zoo",
    workers=_settings.workers,
    http={"host": _settings.host},
    ssl=tls.bentoml_config(_settings),
    traffic={"timeout": _settings.deadline_ms / 1e3 + BENTOML_TIMEOUT_MARGIN_S},
    metrics={"enabled": False},
    logging={"access": {"enabled": False}},
)
@bentoml.asgi_app(cast(Any, _worker), path="/")
class ZooService:
    """ImageNet classification; the routes are in `service.transports.http.app`."""

    @bentoml.on_startup  # type: ignore[untyped-decorator]
    async def start(self) -> None:
        """Load the models before the worker accepts its first connection."""
        await _worker.start()

    @bentoml.on_shutdown  # type: ignore[untyped-decorator]
    async def stop(self) -> None:
        """Finish what was accepted."""
        await _worker.stop()


cast(Any, ZooService).add_asgi_middleware(Bypass)  # the decorator made it a Service
