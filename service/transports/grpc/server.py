"""Makes, starts and stops the gRPC server of one worker, and sets its limits."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from service.config.settings import Settings
from service.dataplane.dataplane import DataPlane
from service.telemetry.request_metrics import refused
from service.transports.base import Transport
from service.transports.grpc import lasting, reflection
from service.transports.grpc.classifier import Classifier
from service.transports.grpc.health import Health
from service.transports.grpc.inference import Inference
from service.transports.grpc.methods import TRANSPORT, Methods
from service.transports.grpc.protos import (
    classifier_pb2,
    classifier_pb2_grpc,
    oip_pb2,
    oip_pb2_grpc,
)
from service.transports.grpc.stream import Streams

if TYPE_CHECKING:
    from service.telemetry.spans import Tracer

logger = logging.getLogger("zoo.grpc")

CLASSIFIER = classifier_pb2.DESCRIPTOR.services_by_name["Classifier"].full_name
INFERENCE = oip_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name
HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
MARGIN_BYTES = 1 << 20
"""A message may exceed the limit by so many bytes and still be received, so that we refuse it with
details. Larger ones grpc refuses before they are received, without details."""
INT_MAX = 2**31 - 1
MAX_METADATA_BYTES = 16 * 1024
MAX_STREAMS = 256
"""How many calls one connection may have open; the client's library queues further ones."""
KEEPALIVE_MS = 60_000
"""After so much silence the server pings a client to see whether the connection lives."""
KEEPALIVE_TIMEOUT_MS = 20_000
WINDOW_PER_THREAD = 8
"""How many requests of one stream are in work at a time, per thread of the pool."""
RETRY_SECONDS = 1.0
"""Pause between two attempts to bind the port for a new server."""
LAST_SECONDS = 0.25
"""At a stop, once all calls are answered: how long to wait for calls on their way, twice."""
MIN_PING_MS = 10_000
"""A connection whose client pings more often than this is closed (ENHANCE_YOUR_CALM)."""


class PortTakenError(RuntimeError):
    """The port cannot be bound; the message is one line."""


class GrpcServer(Transport):
    """The gRPC server of one worker. The kernel spreads connections over workers (SO_REUSEPORT)."""

    def __init__(self, plane: DataPlane, tracer: Tracer | None) -> None:
        """Call this in the event loop that serves."""
        self._plane = plane
        self._tracer = tracer
        self._health = Health((CLASSIFIER, INFERENCE))
        self._streams = Streams(
            plane.bodies,
            partial(refused, TRANSPORT),
            WINDOW_PER_THREAD * plane.settings.pool_threads,
            plane.settings.idle_ms / 1e3,
        )
        self._methods = self._all()
        self._server = self._made()
        self._guard: asyncio.Task[None] | None = None
        self._last: dict[grpc.aio.Server, asyncio.Task[None]] = {}
        """Servers that have failed, each with the task that waits until its calls have ended."""

    def _all(self) -> Methods:
        """Make the methods of all services."""
        methods = Methods(self._plane, self._tracer)
        classifier = Classifier(self._plane, self._streams)
        inference = Inference(self._plane, self._streams)
        classifier_pb2_grpc.add_ClassifierServicer_to_server(classifier, methods)
        # after the generated handlers, which these replace
        methods.add_registered_method_handlers(CLASSIFIER, classifier.handlers())
        oip_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(inference, methods)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, methods)
        reflection.add((CLASSIFIER, INFERENCE, HEALTH), methods)
        return methods

    def _made(self) -> grpc.aio.Server:
        """Make a server of all methods, not yet bound."""
        return lasting.made(self._methods, options(self._plane.settings))

    async def start(self) -> None:
        """Bind the port and serve. Raises PortTakenError."""
        settings = self._plane.settings
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        address = f"{host}:{settings.grpc_port}"
        await self._serve(address)
        self._plane.listen(self._health.report)
        self._guard = asyncio.create_task(self._keep_serving(address))
        logger.info("gRPC on %s%s", address, " with TLS" if settings.tls_cert else "")

    async def _serve(self, address: str) -> None:
        try:
            bound = self._bind(address)
        except RuntimeError:
            bound = 0
        if not bound:
            kind = ""
            if self._plane.settings.tls_cert:
                kind = " or the certificate of a kind that it does not take"
            raise PortTakenError(f"gRPC cannot bind to {address}: is the port in use{kind}?")
        await self._server.start()

    async def _keep_serving(self, address: str) -> None:
        """Whenever the server has failed, bind a new one and then close the old one's port.

        Meanwhile both share the port. The old server finishes the calls that it has in work.
        """
        while True:
            await lasting.failed(self._server)
            logger.warning("gRPC goes on with a new server")
            last, self._server = self._server, self._made()
            while True:
                try:
                    await self._serve(address)
                    break
                except PortTakenError as error:
                    logger.error("%s", error)
                    await asyncio.sleep(RETRY_SECONDS)
            self._last[last] = asyncio.create_task(self._end(last))

    async def _end(self, last: grpc.aio.Server) -> None:
        await lasting.finished(last)
        del self._last[last]

    def _bind(self, address: str) -> int:
        """Return the port that was bound, or 0."""
        credentials = credentials_of(self._plane.settings)
        if credentials is None:
            return self._server.add_insecure_port(address)
        return self._server.add_secure_port(address, credentials)

    def drain(self) -> None:
        """Do nothing: clients watch the server's health, which follows the data plane."""

    async def stop(self) -> None:
        """Report NOT_SERVING, finish the calls that were accepted, close the port.

        Calls without a complete message, or idle streams such as reflection's, are not waited for.
        """
        if self._guard is None:  # it was never started
            return
        self._guard.cancel()
        self._health.stop()
        self._streams.end()
        settings = self._plane.settings
        grace = min(settings.deadline_ms, settings.grace_ms) / 1e3
        stopping = asyncio.ensure_future(self._server.stop(grace))
        for _ in range(2):  # a call on its way may arrive once all others are answered
            idle = asyncio.ensure_future(self._methods.idle())
            await asyncio.wait({stopping, idle}, return_when=asyncio.FIRST_COMPLETED)
            idle.cancel()
            await asyncio.wait({stopping}, timeout=LAST_SECONDS)
        for server in (self._server, *self._last):
            await server.stop(0)
        await asyncio.gather(stopping, *self._last.values())


def credentials_of(settings: Settings) -> grpc.ServerCredentials | None:
    """Return the server's certificate and the CA that clients must have; None without TLS.

    grpc speaks TLS 1.2 and newer. Raises OSError where a file cannot be read.
    """
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    pair = (settings.tls_key.read_bytes(), settings.tls_cert.read_bytes())
    client_ca = settings.tls_client_ca.read_bytes() if settings.tls_client_ca else None
    return grpc.ssl_server_credentials([pair], client_ca, require_client_auth=bool(client_ca))


def options(settings: Settings) -> list[tuple[str, int | str]]:
    """Return grpc's channel arguments: limits of messages, metadata, connections and pings."""
    return [
        ("grpc.so_reuseport", 1),
        ("grpc.optimization_target", "throughput"),
        ("grpc.max_receive_message_length", min(settings.max_body_bytes + MARGIN_BYTES, INT_MAX)),
        ("grpc.max_metadata_size", MAX_METADATA_BYTES),
        ("grpc.absolute_max_metadata_size", 2 * MAX_METADATA_BYTES),
        ("grpc.max_concurrent_streams", MAX_STREAMS),
        ("grpc.max_allowed_incoming_connections", settings.max_connections),
        ("grpc.max_connection_idle_ms", settings.idle_ms),
        ("grpc.server_handshake_timeout_ms", settings.slow_ms),
        ("grpc.keepalive_time_ms", KEEPALIVE_MS),
        ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
        ("grpc.http2.min_ping_interval_without_data_ms", MIN_PING_MS),
        ("grpc.http2.max_ping_strikes", 2),
    ]
