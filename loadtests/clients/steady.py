"""Send requests to replicas at a steady rate, over HTTP and gRPC, and count the answers."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, cast

import grpc
import grpc.aio

from loadtests.clients import client
from loadtests.harness import fleet, marked
from service.transports.grpc.protos import classifier_pb2, classifier_pb2_grpc

TIMEOUT_S = 60.0

Ask = Callable[[], Awaitable[dict[str, Any]]]
"""Sends a request and waits for its answer, as /classify writes it. Raises what `Traffic` notes."""


class Failed(Exception):
    """A step or a request failed; the message says how."""


@dataclass
class Answers:
    """What became of the requests of one kind during one step."""

    latencies_s: list[float] = field(default_factory=list)
    versions: Counter[int] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)


class Traffic:
    """Sends requests of every kind at a steady rate, each at its time, and counts answers."""

    def __init__(self, asks: dict[str, list[Ask]], rate: float) -> None:
        """``rate`` is in requests/s of each kind; each of ``asks`` sends one at a time."""
        self._asks = asks
        self._rate = rate
        self._ends = False
        self.step = ""
        self.answers: dict[tuple[str, str], Answers] = {}
        """By step and kind."""
        self.last: dict[str, list[int]] = {kind: [] for kind in asks}
        """The versions that answered, in order; emptied by who looks at them."""

    async def run(self) -> None:
        """Send until `end`."""
        loops = []
        for kind, asks in self._asks.items():
            period = len(asks) / self._rate
            loops += [
                self._loop(kind, ask, period, period * n / len(asks)) for n, ask in enumerate(asks)
            ]
        await asyncio.gather(*loops)

    async def _loop(self, kind: str, ask: Ask, period: float, begin: float) -> None:
        due = perf_counter() + begin
        while not self._ends:
            await asyncio.sleep(max(0.0, due - perf_counter()))
            begun = perf_counter()
            due = max(due + period, begun)  # who is late does not make up for it
            step = self.step
            answers = self.answers.setdefault((step, kind), Answers())
            try:
                answer = await ask()
            except (Failed, grpc.aio.AioRpcError, ConnectionError, TimeoutError) as error:
                answers.failures.append(_words(error))
                continue
            answers.latencies_s.append(perf_counter() - begun)
            if not marked.is_whole(answer):
                answers.failures.append(f"a mixture: {answer}")
            version = int(answer["version"])
            answers.versions[version] += 1
            self.last[kind].append(version)

    def end(self) -> None:
        """Send no more; what is under way is still answered."""
        self._ends = True

    @property
    def failures(self) -> list[str]:
        """Return the failures of all steps and kinds, in words."""
        return [
            f"{step}: {kind}: {failure}"
            for (step, kind), answers in self.answers.items()
            for failure in answers.failures
        ]

    async def until_answered_by(self, version: int) -> None:
        """Wait until every kind has 20 answers in a row of this version. Raises Failed."""
        for last in self.last.values():
            last.clear()
        end = perf_counter() + TIMEOUT_S
        while not all(
            len(last) >= 20 and set(last[-20:]) == {version} for last in self.last.values()
        ):
            if perf_counter() > end:
                raise Failed(f"version {version} was never the only one that answered")
            await asyncio.sleep(0.02)


def _words(error: BaseException) -> str:
    if isinstance(error, grpc.aio.AioRpcError):
        return f"{error.code().name}: {error.details()}"
    return f"{type(error).__name__}: {error}"


def http_ask(connection: client.Connection, picture: bytes) -> Ask:
    """Return what asks on one connection over HTTP, and sends each request once."""
    request = client.raw(picture, f"/classify?top_k={marked.CLASSES}")

    async def ask() -> dict[str, Any]:
        status = await connection.send(request)
        if status != 200:
            raise Failed(f"{status}: {connection.body[:300]!r}")
        answer: dict[str, Any] = json.loads(connection.body)
        return answer

    return ask


def grpc_ask(channel: grpc.aio.Channel, picture: bytes) -> Ask:
    """Return what asks by calls on a channel; answers have the form of HTTP's."""
    stub = cast(Any, classifier_pb2_grpc).ClassifierStub(channel)
    request = classifier_pb2.ClassifyRequest(images=[picture], top_k=marked.CLASSES)

    async def ask() -> dict[str, Any]:
        reply = await stub.Classify(request, timeout=30)
        found = reply.results[0].classification
        named = [{"index": p.index, "label": p.label} for p in found.predictions]
        return {"version": found.version, "predictions": named}

    return ask


def channel(target: str, *, balanced: bool) -> grpc.aio.Channel:
    """Open a channel with the deployed retry policy, ``balanced`` over all its addresses."""
    config = json.loads(fleet.SERVICE_CONFIG.read_text())
    if not balanced:
        config = {"methodConfig": config["methodConfig"]}
    options = [("grpc.service_config", json.dumps(config))]
    return grpc.aio.insecure_channel(target, options=options)
