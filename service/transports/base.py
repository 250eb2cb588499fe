"""Defines a transport as `service.app` sees it: something to start, drain and stop."""

from __future__ import annotations

from abc import ABC, abstractmethod


class Transport(ABC):
    """A way in: it takes requests and has the data plane answer them.

    To add one: a folder beside `http` and `grpc`, a line in `service.app` that makes it and one
    that warms it up, and its settings. Follow `grpc`; uvicorn accepts what `http` answers. A
    transport checks keys by `transports.auth`, reads requests within
    `telemetry.request_metrics.Reading`, passes its name to the data plane, and hears from
    `DataPlane.listen` whether this worker is ready.
    """

    @abstractmethod
    async def start(self) -> None:
        """Begin to take requests. Raises OSError or RuntimeError where its port is taken."""

    @abstractmethod
    def drain(self) -> None:
        """Make clients send their next requests elsewhere, and answer what still comes."""

    @abstractmethod
    async def stop(self) -> None:
        """Stop taking requests, and return when all that were taken are answered.

        It may be called twice, and also before `start`.
        """
