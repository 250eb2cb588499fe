"""What `service.app` knows of a transport: it starts, drains and stops all of them alike."""

from __future__ import annotations

from abc import ABC, abstractmethod


class Transport(ABC):
    """A way in: it takes requests, has the data plane answer them, and ends when it is told to.

    A new one is a folder beside `http` and `grpc`, a line in `service.app` and its settings.
    """

    @abstractmethod
    async def start(self) -> None:
        """Take requests from now on. Raises OSError or RuntimeError where its port is taken."""

    @abstractmethod
    def drain(self) -> None:
        """Answer what comes, and send clients elsewhere with what they ask next."""

    @abstractmethod
    async def stop(self) -> None:
        """Take no new requests, and return when all that were taken are answered.

        It may be called twice, and before `start` was.
        """
