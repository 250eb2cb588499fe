"""Serves grpc.health.v1.Health: one state for the server as a whole (``""``) and each service.

It stands in place of grpcio-health-checking's own servicer, whose watches delay a stop by its whole
grace period, and which keeps an entry for every name that a client ever watched.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable

from grpc_health.v1 import health_pb2 as messages
from grpc_health.v1 import health_pb2_grpc

from service.errors import NotFound, NotReady, Overloaded
from service.transports.grpc.calls import Context

States = messages.HealthCheckResponse
MAX_WATCHES = 64
"""How many watches may be open: anybody may open one, and it never ends by itself."""


class UnknownService(NotFound):
    """No service has that name. The status is the one that the health protocol prescribes."""

    grpc_status = "NOT_FOUND"


class Health(health_pb2_grpc.HealthServicer):
    """The health service for ``services``: NOT_SERVING until `report` says otherwise."""

    def __init__(self, services: Iterable[str]) -> None:
        self._names = frozenset(("", *services))
        self._ready = False
        self._stopping = False
        self._changed = asyncio.Event()
        self._watches = 0

    def report(self, ready: bool) -> None:
        """Set the state: SERVING where ``ready``, which means that the default model answers."""
        self._ready = ready
        self._tell()

    def stop(self) -> None:
        """Set NOT_SERVING for good. Watches send it and end, so that clients look elsewhere."""
        self._stopping = True
        self._tell()

    async def Check(  # noqa: N802
        self, request: messages.HealthCheckRequest, context: Context
    ) -> messages.HealthCheckResponse:
        """Answer the state now. Raises UnknownService (NOT_FOUND)."""
        status = self._status(request.service)
        if status == States.SERVICE_UNKNOWN:
            raise UnknownService("there is no service of that name")
        return States(status=status)

    async def List(  # noqa: N802
        self, request: messages.HealthListRequest, context: Context
    ) -> messages.HealthListResponse:
        """Answer the state of the server and of each service now."""
        return messages.HealthListResponse(
            statuses={name: States(status=self._status(name)) for name in self._names}
        )

    async def Watch(  # noqa: N802
        self, request: messages.HealthCheckRequest, context: Context
    ) -> AsyncIterator[messages.HealthCheckResponse]:
        """Send the state now and whenever it changes; SERVICE_UNKNOWN for an unknown name.

        Raises NotReady when the server stops, and Overloaded where too many watches are open.
        """
        if self._watches == MAX_WATCHES:
            raise Overloaded(f"there are {MAX_WATCHES} watches", retry_after=1)
        self._watches += 1
        try:
            last = None
            while True:
                changed, stopping = self._changed, self._stopping
                status = self._status(request.service)
                if status != last:
                    yield States(status=status)
                    last = status
                if stopping:  # read before the answer, so that NOT_SERVING has been sent
                    raise NotReady("the server is stopping")
                await changed.wait()
        finally:
            self._watches -= 1

    def _status(self, name: str) -> int:
        if name not in self._names:
            return int(States.SERVICE_UNKNOWN)
        return int(States.SERVING if self._ready and not self._stopping else States.NOT_SERVING)

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
