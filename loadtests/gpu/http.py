"""JPEG to top-5 over HTTP: a server of its own, and clients in processes of their own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib import resources
from io import BytesIO
from pathlib import Path
from time import perf_counter
from urllib.parse import urlsplit

from PIL import Image

from loadtests.gpu.report import Figures, figures
from loadtests.server import OPENER

READY_S = 240
"""A start builds TensorRT engines."""
_SIZE = (500, 375)
"""Of an ordinary picture of ImageNet."""


def jpeg() -> bytes:
    """A photograph as ImageNet has them: 500 x 375, quality 90."""
    photograph = resources.files("sklearn.datasets.images").joinpath("china.jpg").read_bytes()
    stream = BytesIO()
    with Image.open(BytesIO(photograph)) as image:
        image.convert("RGB").resize(_SIZE).save(stream, "JPEG", quality=90)
    return stream.getvalue()


class ServerFailed(Exception):
    """The server did not become ready; the message is the end of its log."""


@contextlib.contextmanager
def serving(folder: Path, settings: dict[str, str], ready_s: float = READY_S) -> Iterator[str]:
    """Run the service with these ZOO_ settings; yield its URL once it is ready.

    Raises ServerFailed.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    clean = {key: value for key, value in os.environ.items() if not key.startswith("ZOO_")}
    own = {"BENTOML_HOME": str(folder / "bentoml"), "BENTOML_DO_NOT_TRACK": "True"}
    command = [sys.executable, "-m", "bentoml", "serve", "service.app:ZooService"]
    log = folder / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603
            [*command, "--host", "127.0.0.1", "--port", str(port)],
            env={**clean, **own, **settings},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        url = f"http://127.0.0.1:{port}"
        _wait(process, url, log, ready_s)
        yield url
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(5)


def _wait(process: subprocess.Popen[bytes], url: str, log: Path, ready_s: float) -> None:
    end = time.monotonic() + ready_s
    while process.poll() is None and time.monotonic() < end:
        with contextlib.suppress(OSError):
            if OPENER.open(f"{url}/readyz", timeout=5).status == 200:
                return
        time.sleep(0.1)
    lines = log.read_text(errors="replace").strip().splitlines()
    raise ServerFailed(lines[-1] if lines else "it said nothing")


def load(
    url: str, picture: bytes, *, model: str, connections: int, seconds: float, processes: int
) -> Figures:
    """Send ``picture`` over ``connections`` kept-alive connections for ``seconds``."""
    command = [sys.executable, "-m", "loadtests.gpu.http", url, model, str(seconds)]
    shares = [connections // processes + (i < connections % processes) for i in range(processes)]
    clients = [
        subprocess.Popen(  # noqa: S603
            [*command, str(share)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for share in shares
        if share
    ]
    for client in clients:
        assert client.stdin is not None  # noqa: S101
        client.stdin.write(picture)
        client.stdin.close()
    latencies: list[float] = []
    failures, elapsed = 0, seconds
    for client in clients:
        assert client.stdout is not None  # noqa: S101
        answer = json.loads(client.stdout.read())
        client.wait()
        latencies += answer["latencies"]
        failures += answer["failures"]
        elapsed = max(elapsed, answer["elapsed"])
    return figures(latencies, len(latencies), elapsed, failures)


async def _send(url: str, request: bytes, until: float, latencies: list[float]) -> int:
    """Ask over one connection until ``until``; returns the answers that were not 200."""
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    failures = 0
    try:
        while (begun := perf_counter()) < until:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = 0
            for line in head.lower().split(b"\r\n"):
                if line.startswith(b"content-length:"):
                    length = int(line.partition(b":")[2])
            await reader.readexactly(length)
            if head.split(b" ", 2)[1] == b"200":
                latencies.append(perf_counter() - begun)
            else:
                failures += 1
    except (asyncio.IncompleteReadError, ConnectionError):
        failures += 1
    finally:
        writer.close()
    return failures


async def _client(url: str, model: str, seconds: float, connections: int, picture: bytes) -> None:
    head = (
        f"POST /classify?model={model} HTTP/1.1\r\nHost: localhost\r\n"
        f"Content-Type: image/jpeg\r\nContent-Length: {len(picture)}\r\n\r\n"
    )
    request = head.encode() + picture
    latencies: list[float] = []
    await asyncio.gather(
        *(_send(url, request, perf_counter() + seconds / 4, []) for _ in range(connections))
    )  # the first quarter is for warming up
    begun = perf_counter()
    failures = await asyncio.gather(
        *(_send(url, request, begun + seconds, latencies) for _ in range(connections))
    )
    elapsed = perf_counter() - begun
    answer = {"latencies": latencies, "failures": sum(failures), "elapsed": elapsed}
    sys.stdout.write(json.dumps(answer))


if __name__ == "__main__":
    asyncio.run(
        _client(
            sys.argv[1],
            sys.argv[2],
            float(sys.argv[3]),
            int(sys.argv[4]),
            sys.stdin.buffer.read(),
        )
    )
