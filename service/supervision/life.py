"""A worker's end: draining, the last answers, the close of its ports."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, cast

from service.config.settings import Settings
from service.supervision import channel, worker

if TYPE_CHECKING:
    from uvicorn import Server

logger = logging.getLogger("zoo.life")

LINGER_SECONDS = 0.3
"""At the stop, for idle connections: what a client has just sent on one is still answered."""
LEAST_SECONDS = 0.05
"""Until the connections that have begun are accepted; none begins any more."""
MARGIN_SECONDS = 1.0
"""A worker that is told to end by a signal leaves the word to its supervisor for so long."""


class Connection(Protocol):
    """One of HTTP."""

    leaving: ClassVar[bool]
    """Whether every connection of this worker is to end with the next answer."""

    @property
    def idle(self) -> bool:
        """Whether no request is being received or answered."""

    def leave(self) -> None:
        """End with the answer that is made now."""


class Life:
    """Of one worker, in its event loop. Two steps, each done once: `drain`, then `stop`."""

    def __init__(
        self,
        settings: Settings,
        connection: type[Connection],
        leave: Callable[[], None],
        close: Callable[[], Awaitable[None]],
    ) -> None:
        """``leave`` says that this is no place for new work, ``close`` ends the gRPC server."""
        self._settings = settings
        self._connection = connection
        self._leave = leave
        self._close = close
        self._draining = self._stopping = False
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._words = b""
        self._server: Server | None = None

    def begin(self) -> None:
        """Take signals over from uvicorn, where it serves, and follow the supervisor's orders."""
        self._server = cast(Any, getattr(signal.getsignal(signal.SIGTERM), "__self__", None))
        if self._server is None:
            return  # the app is used without a server
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._signalled)
        if worker.orders is None:
            loop.add_signal_handler(signal.SIGINT, self._signalled)
        else:
            loop.add_signal_handler(signal.SIGINT, lambda: None)  # the supervisor has it as well
            loop.add_reader(worker.orders, self._ordered, worker.orders)

    def ready(self) -> None:
        """Tell the supervisor that this worker serves."""
        worker.serves.set()
        if worker.orders is not None:
            with suppress(OSError):
                worker.orders.sendall(channel.READY + b"\n")
            if self._settings.hang_ms:
                self._beat_later(worker.orders)

    async def closed(self) -> None:
        """Wait until the gRPC server has ended."""
        self._stopping = True
        await asyncio.gather(*self._tasks)
        await self._close()  # a second time perhaps: it may have begun since

    def over(self) -> None:
        """All is answered: a signal that comes now, an echo perhaps, changes nothing any more."""
        if self._server is None or worker.orders is None:
            return
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().remove_signal_handler(number)
            signal.signal(number, signal.SIG_IGN)

    def drain(self) -> None:
        """Not ready any more, but whatever comes is answered; connections end with an answer."""
        if self._draining:
            return
        self._draining = True
        logger.info("draining: not ready any more, what comes is still answered")
        self._leave()
        self._connection.leaving = True
        for connection in self._connections():
            connection.leave()

    def stop(self) -> None:
        """Finish what was accepted, accept nothing more, and end."""
        self.drain()
        if not self._stopping:
            self._stopping = True
            self._tasks = [
                asyncio.ensure_future(cast(Any, self._close())),
                asyncio.ensure_future(self._last_answers()),
            ]

    async def _last_answers(self) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + LINGER_SECONDS
        await asyncio.sleep(LEAST_SECONDS)
        while loop.time() < end and any(each.idle for each in self._connections()):  # noqa: ASYNC110
            await asyncio.sleep(LEAST_SECONDS)
        server = cast(Any, self._server)
        server.config.timeout_graceful_shutdown = self._settings.grace_ms / 1e3
        server.handle_exit(signal.SIGINT, None)  # not ignored by uvicorn, but by this process

    def _connections(self) -> list[Connection]:
        return list(cast(Any, self._server).server_state.connections) if self._server else []

    def _signalled(self) -> None:
        """To end this worker alone, or because all processes are told to."""
        if self._draining:
            return  # an echo
        self.drain()
        margin = 0.0 if worker.orders is None else MARGIN_SECONDS
        self._stop_after(self._settings.drain_ms / 1e3 + margin)

    def _ordered(self, orders: socket.socket) -> None:
        words = b""
        with suppress(OSError):  # a reset, where the supervisor ended without reading `ready`
            words = orders.recv(4096)
        if not words:
            asyncio.get_running_loop().remove_reader(orders)
            logger.error("the supervisor has ended: so does this worker")
            self.drain()
            self._stop_after(self._settings.drain_ms / 1e3)
            return
        *lines, self._words = (self._words + words).split(b"\n")
        for word in lines:
            self._stop_after(None)
            {channel.DRAIN: self.drain, channel.STOP: self.stop}[word]()

    def _beat_later(self, orders: socket.socket) -> None:
        period = self._settings.hang_ms / 1e3 / channel.BEATS
        asyncio.get_running_loop().call_later(period, self._beat, orders)

    def _beat(self, orders: socket.socket) -> None:
        channel.say(orders, channel.ALIVE)
        self._beat_later(orders)

    def _stop_after(self, seconds: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if seconds is not None:
            self._timer = asyncio.get_running_loop().call_later(seconds, self.stop)
