"""Load JPEG to top-5 over HTTP from several client processes: one cannot load a GPU."""

from __future__ import annotations

import json
import subprocess
import sys

from loadtests.clients import client
from loadtests.gpu.report import Figures, figures
from loadtests.harness.photographs import jpeg, photograph

START_S = 240
"""Seconds that a start may take: it may build TensorRT engines."""
_SIZE = (500, 375)
"""(width, height) in pixels of an ordinary picture of ImageNet."""


def picture() -> bytes:
    """Return a photograph as ImageNet has them: a JPEG of 500 x 375 pixels, quality 90."""
    return jpeg(photograph("china.jpg").resize(_SIZE))


def load(
    port: int, encoded: bytes, *, model: str, connections: int, seconds: float, processes: int
) -> Figures:
    """Send a picture over ``connections`` kept-alive connections for ``seconds``."""
    command = [sys.executable, "-m", "loadtests.gpu.http", str(port), model, str(seconds)]
    shares = [connections // processes + (i < connections % processes) for i in range(processes)]
    clients = [
        subprocess.Popen(  # noqa: S603
            [*command, str(share)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for share in shares
        if share
    ]
    for process in clients:
        assert process.stdin is not None  # noqa: S101
        process.stdin.write(encoded)
        process.stdin.close()
    latencies: list[float] = []
    failures, elapsed = 0, seconds
    for process in clients:
        assert process.stdout is not None  # noqa: S101
        answer = json.loads(process.stdout.read())
        process.wait()
        latencies += answer["latencies"]
        failures += answer["failures"]
        elapsed = max(elapsed, answer["elapsed"])
    return figures(latencies, len(latencies), elapsed, failures)


async def _client(port: int, model: str, seconds: float, connections: int, encoded: bytes) -> None:
    request = [client.raw(encoded, f"/classify?model={model}")]
    opened = await client.connect(port, connections)
    await client.closed_loop(opened, request, seconds / 4)  # warms up
    load = await client.closed_loop(opened, request, seconds)
    answer = {
        "latencies": load.latencies_s,
        "failures": len(load.refusals_s),
        "elapsed": load.seconds,
    }
    sys.stdout.write(json.dumps(answer))


if __name__ == "__main__":
    port, name, duration, share = sys.argv[1:]
    client.run(_client(int(port), name, float(duration), int(share), sys.stdin.buffer.read()))
