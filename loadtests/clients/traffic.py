"""Send requests at a rate while a service stops, and count what became of each."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import grpc
import grpc.aio

from loadtests.clients import client
from service.transports.grpc.protos import classifier_pb2 as pb
from service.transports.grpc.protos import classifier_pb2_grpc

GRPC_EACH = 5
"""Every fifth request is a call over gRPC."""
SERVICE_CONFIG = {
    "methodConfig": [
        {
            "name": [{"service": "zoo.v1.Classifier"}],
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.1s",
                "maxBackoff": "1s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["CANCELLED"],
            },
        }
    ]
}
"""Of deploy/grpc/service_config.json what a stopping server needs: calls that it had not begun are
tried again. Those that were cut (UNAVAILABLE) are not: here they shall be seen."""
CHANNELS = 4
_NOT_CONNECTED = ("failed to connect", "connection refused", "econnrefused")


@dataclass
class Outcome:
    """What became of the requests; moments are of ``perf_counter``."""

    answered_at: list[float] = field(default_factory=list)
    came_at: list[float] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    """`ok`, `refused`, `reset`, `lost`, or a status; each after `http ` or `grpc `."""
    lost: list[tuple[float, str]] = field(default_factory=list)
    """When each of the lost ones was sent, and what is known of it."""
    reset: list[tuple[float, str]] = field(default_factory=list)
    """The same of those of which nothing was sent: their connection was reset while it was made, in
    the queue of a port that nobody listened at any more."""

    def ok(self, kind: str) -> None:
        """Count an answer."""
        self.answered_at.append(perf_counter())
        self.counts[f"{kind} ok"] += 1

    def lose(self, kind: str, sent: float, why: object) -> None:
        """Count a request that was sent at that moment and never answered."""
        self.counts[f"{kind} lost"] += 1
        self.lost.append((sent, f"{kind}: {why}"))

    def not_accepted(self, kind: str, began: float, why: object) -> None:
        """Count a connection that was reset while it was made: nothing was sent on it."""
        self.counts[f"{kind} reset"] += 1
        self.reset.append((began, f"{kind}: {why}"))


class Traffic:
    """Requests at a rate, until `end`."""

    def __init__(self, port: int, grpc_port: int, encoded: Sequence[bytes]) -> None:
        """Prepare; call this in the event loop."""
        self._port = port
        self._requests = [client.raw(picture) for picture in encoded]
        self._messages = [pb.ClassifyRequest(images=[picture]) for picture in encoded]
        options = [
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.max_reconnect_backoff_ms", 200),
            ("grpc.service_config", json.dumps(SERVICE_CONFIG)),
        ]
        self._channels = [
            grpc.aio.insecure_channel(f"127.0.0.1:{grpc_port}", options=options)
            for _ in range(CHANNELS)
        ]
        self._stubs: list[Any] = [
            classifier_pb2_grpc.ClassifierStub(channel)  # type: ignore[no-untyped-call]
            for channel in self._channels
        ]
        self._ends = False
        self.idle: list[client.Connection] = []
        self.busy: set[client.Connection] = set()
        self.calls = 0
        """Of gRPC, in flight."""
        self.outcome = Outcome()

    async def run(self, rate: float) -> None:
        """Send ``rate`` requests/s until `end`; return when all have ended."""
        start = perf_counter()
        number = 0
        tasks: set[asyncio.Task[None]] = set()
        while not self._ends:
            await asyncio.sleep(max(0.0, start + number / rate - perf_counter()))
            self.outcome.came_at.append(perf_counter())
            ask = self._call if number % GRPC_EACH == 0 else self._ask
            task = asyncio.ensure_future(ask(number))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            number += 1
        if tasks:
            await asyncio.wait(tasks)
        for connection in self.idle:
            connection.close()
        for channel in self._channels:
            await channel.close()

    def end(self) -> None:
        """Send no more."""
        self._ends = True

    async def _ask(self, number: int) -> None:
        connection, sent = None, perf_counter()
        while self.idle and (connection is None or connection.closed):
            connection = self.idle.pop()
        if connection is None or connection.closed:
            try:
                (connection,) = await client.connect(self._port, 1)
            except ConnectionRefusedError:
                self.outcome.counts["http refused"] += 1
                return
            except ConnectionResetError as error:
                self.outcome.not_accepted("http", sent, repr(error))
                return
            except OSError as error:
                self.outcome.lose("http", sent, f"while it connected: {error!r}")
                return
        self.busy.add(connection)
        try:
            status = await connection.send(self._requests[number % len(self._requests)])
        except OSError as error:
            self.outcome.lose("http", sent, repr(error))
            return
        finally:
            self.busy.discard(connection)
        if status == 200:
            self.outcome.ok("http")
        else:
            self.outcome.counts[f"http {status}"] += 1
        if connection.ends:
            connection.close()
        else:
            self.idle.append(connection)

    async def _call(self, number: int) -> None:
        self.calls += 1
        sent = perf_counter()
        try:
            await self._stubs[number // GRPC_EACH % len(self._stubs)].Classify(
                self._messages[number % len(self._messages)], timeout=30
            )
        except grpc.aio.AioRpcError as error:
            words = f"{error.code().name}: {error.details()}"
            if not any(each in words.lower() for each in _NOT_CONNECTED):
                self.outcome.lose("grpc", sent, words)
            elif "connection reset" in words.lower():
                self.outcome.not_accepted("grpc", sent, words)
            else:
                self.outcome.counts["grpc refused"] += 1
        else:
            self.outcome.ok("grpc")
        finally:
            self.calls -= 1
