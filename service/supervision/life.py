"""Ends a worker in order: its transports are drained, then stopped, then the process ends."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol, cast

from service.config.settings import Settings
from service.supervision import channel

if TYPE_CHECKING:
    from uvicorn import Server

logger = logging.getLogger("zoo.life")

MARGIN_SECONDS = 1.0
"""A worker that gets a signal gives its supervisor so long to order the stop, before it stops by
itself."""


class Transport(Protocol):
    """What this room uses of `service.transports.base.Transport`, which it may not import."""

    def drain(self) -> None:
        """Answer what comes, but have clients send their next requests elsewhere."""

    async def stop(self) -> None:
        """Take no new requests, and return when all that were taken are answered."""


class Life:
    """The end of one worker, in its event loop, in two steps: `drain`, then `stop`, once each."""

    def __init__(
        self,
        settings: Settings,
        orders: socket.socket | None,
        leave: Callable[[], None],
        transports: Iterable[Transport],
    ) -> None:
        """``orders`` is the socket to the supervisor, None without one. ``leave`` makes the worker
        unready. ``transports`` is read only at the end, when all of them have started.
        """
        self._settings = settings
        self._orders = orders
        self._leave = leave
        self._transports = transports
        self._draining = self._stopping = False
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._words = b""
        """The first bytes of an order whose end has yet to come."""
        self._server: Server | None = None

    def begin(self) -> None:
        """Take signals over from uvicorn, if it serves, and follow the supervisor's orders."""
        self._server = cast(Any, getattr(signal.getsignal(signal.SIGTERM), "__self__", None))
        if self._server is None:
            return  # the app is used without a server
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._signalled)
        if self._orders is None:
            loop.add_signal_handler(signal.SIGINT, self._signalled)
        else:
            loop.add_signal_handler(signal.SIGINT, lambda: None)  # the supervisor gets it too
            loop.add_reader(self._orders, self._ordered, self._orders)

    def ready(self) -> None:
        """Tell the supervisor that this worker serves, and from now on that it is alive."""
        if self._orders is not None:
            with suppress(OSError):
                self._orders.sendall(channel.READY + b"\n")
            if self._settings.hang_ms:
                self._beat_later(self._orders)

    async def closed(self) -> None:
        """Stop the transports, and wait until all have ended."""
        self._stopping = True
        await asyncio.gather(*self._tasks)
        # perhaps for the second time: a transport may have started since the first
        await asyncio.gather(*(each.stop() for each in self._transports))

    def over(self) -> None:
        """Ignore signals from now on, such as a repeated one, since all requests are answered."""
        if self._server is None or self._orders is None:
            return
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().remove_signal_handler(number)
            signal.signal(number, signal.SIG_IGN)

    def drain(self) -> None:
        """Become unready and drain the transports: requests that come are still answered."""
        if self._draining:
            return
        self._draining = True
        logger.info("draining: not ready any more, what comes is still answered")
        self._leave()
        for each in self._transports:
            each.drain()

    def stop(self) -> None:
        """Drain, then stop the transports: they accept nothing more and finish what they have."""
        self.drain()
        if not self._stopping:
            self._stopping = True
            self._tasks = [asyncio.ensure_future(each.stop()) for each in self._transports]

    def end(self) -> None:
        """Have uvicorn close its port, finish what it accepted, and end this process."""
        if self._server is not None and not self._server.should_exit:
            server = cast(Any, self._server)
            server.config.timeout_graceful_shutdown = self._settings.grace_ms / 1e3
            # only tells uvicorn to stop: this process ignores the signal itself
            server.handle_exit(signal.SIGINT, None)

    def _signalled(self) -> None:
        """Drain, and stop later: the signal was for this worker, or for all processes at once."""
        if self._draining:
            return  # the signal was sent twice
        self.drain()
        margin = 0.0 if self._orders is None else MARGIN_SECONDS
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
