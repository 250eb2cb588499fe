"""A gRPC client that costs little, for the benchmarks: HTTP/2 frames made before they are sent.

A client library takes about as long for a call as the service does for its own part, on the cores
that both share. Answers with a message count as 200, those without one (a status alone) as 500.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Sequence
from time import perf_counter

from loadtests.clients.client import Load
from loadtests.clients.http2 import Http2
from service.transports.grpc.protos.classifier_pb2 import ClassifyRequest, ClassifyResponse

CLASSIFY, STREAM = b"/zoo.v1.Classifier/Classify", b"/zoo.v1.Classifier/ClassifyStream"


def message(picture: bytes) -> bytes:
    """Return a ClassifyRequest with gRPC's five bytes before it."""
    encoded: bytes = ClassifyRequest(images=[picture]).SerializeToString()
    return b"\0" + len(encoded).to_bytes(4, "big") + encoded


async def connect(port: int, host: str = "127.0.0.1") -> Http2:
    """Open a connection and wait for the server's settings."""
    _, connection = await asyncio.get_running_loop().create_connection(Http2, host, port)
    await connection.ready()
    return connection


async def calls(port: int, at_once: int, messages: Sequence[bytes], seconds: float) -> Load:
    """Make unary calls on one connection, ``at_once`` at a time; those under way count."""
    connection = await connect(port)
    load = Load()
    turn = itertools.cycle(messages)
    start = perf_counter()
    stop = start + seconds

    async def one() -> None:
        while perf_counter() < stop:
            begun = perf_counter()
            answered = await connection.call(CLASSIFY, next(turn))
            load.note(200 if answered else 500, perf_counter() - begun)

    await asyncio.gather(*(one() for _ in range(at_once)))
    load.seconds = perf_counter() - start
    connection.close()
    return load


async def stream(port: int, at_once: int, messages: Sequence[bytes], s: float) -> Load:
    """Send on one stream, with ``at_once`` requests unanswered, for ``s`` seconds.

    Answers come in any order: the time of each is counted from the oldest request on.
    """
    connection = await connect(port)
    load = Load()
    turn = itertools.cycle(messages)
    number, answers = connection.stream(STREAM)
    start = perf_counter()
    stop = start + s
    sent: deque[float] = deque()

    def send() -> None:
        sent.append(perf_counter())
        connection.send(number, next(turn), end=False)

    for _ in range(at_once):
        send()
    came: list[tuple[bytes, float]] = []
    while sent:
        came.append((await answers.get(), perf_counter() - sent.popleft()))
        if perf_counter() < stop:
            send()
    load.seconds = perf_counter() - start
    connection.close()
    for answer, seconds in came:
        results = ClassifyResponse.FromString(answer).results
        failed = any(result.WhichOneof("outcome") == "error" for result in results)
        load.note(500 if failed or not results else 200, seconds)
    return load
