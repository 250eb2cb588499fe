"""Besiege a service with hostile clients together, and measure how the others fare.

    python -m loadtests.benchmarks.siege

Four clients send JPEGs as large as a body may be, of thousands of Exif segments; four send gRPC
calls of 31 MB, compressed to some kilobytes, that all fail (no picture, no such model, a bad
``top_k``, no message; ModelInfer alike); one sends HEADERS frames whose ``:path`` is not UTF-8
while a Health/Watch is open; one asks for 144 crops without a pause. Beside them a client sends
single pictures, ten in a second. Each must be answered within two seconds, both ports must take
every connection, and the workers' memory must stay below the ceiling that they announced. The
command fails otherwise.
"""

from __future__ import annotations

import argparse
import socket
import struct
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import grpc
import numpy as np

from loadtests.benchmarks.sustained import Memory, ceiling
from loadtests.harness import bench, server
from loadtests.harness.photographs import usual_pictures
from service.transports.grpc.protos import classifier_pb2, oip_pb2

MOST_SECONDS = 2.0
BODY_BYTES = 32 * 1024 * 1024
MESSAGE_BYTES = 31 * 1024 * 1024
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def exif_bomb(picture: bytes, size: int = BODY_BYTES) -> bytes:
    """Return the JPEG with as many Exif segments of 3,300 bytes as fit into ``size`` bytes."""
    segment = b"\xff\xe1" + struct.pack(">H", 3300) + b"Exif\0\0" + bytes(3292)
    return picture[:2] + segment * ((size - len(picture)) // len(segment)) + picture[2:]


def bad_path() -> bytes:
    """Return a connection's first frames: settings, and headers whose path is not UTF-8."""
    literal = b"".join(
        b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value
        for name, value in (
            (b":method", b"POST"),
            (b":scheme", b"http"),
            (b":path", b"/\xff\xfe/x"),
            (b":authority", b"x"),
            (b"te", b"trailers"),
            (b"content-type", b"application/grpc"),
        )
    )
    return _PREFACE + _frame(4, 0, 0, b"") + _frame(1, 5, 1, literal)


def _frame(kind: int, flags: int, stream: int, body: bytes) -> bytes:
    return (
        struct.pack(">I", len(body))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + body
    )


class Siege:
    """Threads that attack until the end, and counts of what they have done."""

    def __init__(self, running: server.Running) -> None:
        self.running = running
        self.done: Counter[str] = Counter()
        self._over = threading.Event()
        self._threads: list[threading.Thread] = []

    def begin(self, deed: Callable[[], None], name: str) -> None:
        """Repeat ``deed`` in a thread of its own."""

        def work() -> None:
            while not self._over.is_set():
                with suppress(OSError, grpc.RpcError):
                    deed()
                self.done[name] += 1

        thread = threading.Thread(target=work, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def end(self) -> None:
        """Wait until every thread has finished its deed."""
        self._over.set()
        for thread in self._threads:
            thread.join(60)

    def wait(self, seconds: float) -> bool:
        """Sleep for so many seconds or to the end; return whether it is the end."""
        return self._over.wait(seconds)

    def post(self, body: bytes, query: str = "") -> int:
        """Send a picture and return the status."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.running.port}/classify{query}", body, method="POST"
        )
        request.add_header("Content-Type", "application/octet-stream")
        try:
            with server.OPENER.open(request, timeout=60) as answer:
                answer.read()
                return int(answer.status)
        except urllib.error.HTTPError as error:
            error.read()
            return error.code

    def failing_calls(self) -> list[Callable[[], object]]:
        """Return calls that fail, each with a message of many zeros, which gzip makes small."""
        options = [("grpc.max_send_message_length", -1)]
        channel = grpc.insecure_channel(
            f"127.0.0.1:{self.running.grpc_port}", options, grpc.Compression.Gzip
        )
        zeros = bytes(MESSAGE_BYTES)
        classify: Any = channel.unary_unary(
            "/zoo.v1.Classifier/Classify",
            classifier_pb2.ClassifyRequest.SerializeToString,
        )
        plain: Any = channel.unary_unary("/zoo.v1.Classifier/Classify")
        infer: Any = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            oip_pb2.ModelInferRequest.SerializeToString,
        )
        tensor = oip_pb2.ModelInferRequest.InferInputTensor(
            name="image", datatype="BYTES", shape=[1]
        )
        raw = [struct.pack("<I", len(zeros)) + zeros]
        make = classifier_pb2.ClassifyRequest
        requests = [
            make(images=[zeros]),
            make(images=[zeros], model="nothing"),
            make(images=[zeros], top_k=100_000),
        ]
        inference = oip_pb2.ModelInferRequest(
            model_name="efficientnet_lite0", inputs=[tensor], raw_input_contents=raw
        )
        return [
            *(partial(classify, request, timeout=60) for request in requests),
            partial(plain, b"\xff" * 1000 + zeros, timeout=60),
            partial(infer, inference, timeout=60),
        ]

    def break_a_connection(self) -> None:
        """Send the bad headers and hang up."""
        address = ("127.0.0.1", self.running.grpc_port)
        with socket.create_connection(address, 5) as broken:
            broken.sendall(bad_path())
            self.wait(0.1)


def ports_open(running: server.Running) -> bool:
    """Whether both ports take a connection."""
    for port in (running.port, running.grpc_port):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
        except OSError:
            return False
    return True


def measure(seconds: float) -> dict[str, float]:
    """Besiege a service for ``seconds`` and return the figures."""
    encoded = usual_pictures()
    bomb = exif_bomb(encoded[0])
    with server.serving() as running:
        siege = Siege(running)
        health = grpc.insecure_channel(f"127.0.0.1:{running.grpc_port}")
        watching: Any = health.unary_stream("/grpc.health.v1.Health/Watch")
        watch = watching(b"")
        latencies: list[float] = []
        statuses: Counter[int] = Counter()
        closed = looks = 0
        with Memory(running) as memory:
            for number in range(4):
                siege.begin(lambda: _ignored(siege.post(bomb)), "Exif bombs")
                calls = siege.failing_calls()
                siege.begin(partial(_each, calls), f"failing calls {number}")
            siege.begin(siege.break_a_connection, "frames")
            siege.begin(lambda: _ignored(siege.post(encoded[1], "?protocol=crops_144")), "144")
            end = perf_counter() + seconds
            while perf_counter() < end:
                begun = perf_counter()
                statuses[siege.post(encoded[len(latencies) % len(encoded)])] += 1
                latencies.append(perf_counter() - begun)
                closed += not ports_open(running)
                looks += 1
                time.sleep(max(0.0, 0.1 - (perf_counter() - begun)))
            siege.end()
        watch.cancel()
        health.close()
        most = ceiling(running.port)
    calls_made = sum(n for name, n in siege.done.items() if name.startswith("failing"))
    return {
        "seconds": seconds,
        "Exif bombs answered": siege.done["Exif bombs"],
        "rounds of five failing gRPC calls": calls_made,
        "frames with a bad path": siege.done["frames"],
        "requests of 144 crops": siege.done["144"],
        "single pictures": sum(statuses.values()),
        "single pictures not answered with 200": sum(statuses.values()) - statuses[200],
        "single pictures, p50 in ms": float(np.percentile(latencies, 50)) * 1e3,
        "single pictures, slowest in ms": max(latencies) * 1e3,
        "looks at the ports": looks,
        "looks at which a port was closed": closed,
        "memory of the workers, peak in MB": memory.peak / 1e6,
        "memory ceiling in MB": most / 1e6,
    }


def _ignored(_: object) -> None:
    """Accept any answer."""


def _each(calls: Sequence[Callable[[], object]]) -> None:
    for call in calls:
        with suppress(grpc.RpcError):
            call()


def failures(found: dict[str, float]) -> list[str]:
    """Return what does not hold, in words."""
    checks = {
        "single pictures were not all answered": (
            found["single pictures not answered with 200"] > 0
        ),
        f"a single picture took more than {MOST_SECONDS:g} s": (
            found["single pictures, slowest in ms"] > 1e3 * MOST_SECONDS
        ),
        "a port was closed": found["looks at which a port was closed"] > 0,
        "more memory than announced": (
            found["memory of the workers, peak in MB"] > found["memory ceiling in MB"]
        ),
    }
    return [what for what, fails in checks.items() if fails]


def main() -> int:
    """Run, print the table, write the CSV; 1 when something does not hold."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.benchmarks.siege", description=__doc__
    )
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--output", type=Path, default=bench.RESULTS / "siege.csv")
    args = parser.parse_args()
    found = measure(args.seconds)
    about = bench.machine("onnxruntime", "bentoml", "grpcio", "pillow")
    return bench.verdict(found, failures(found), args.output, about)


if __name__ == "__main__":
    sys.exit(main())
