"""The memory that a worker may take: the sum of its limits holds under a flood."""

from __future__ import annotations

import io
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
from PIL import Image

from tests.server import serving

SIDE = 2000
PICTURES = 36


def picture(kind: str, number: int) -> bytes:
    """The largest that is allowed, of a kind that is expensive to decode."""
    image = Image.radial_gradient("L").resize((SIDE, SIDE))
    image = Image.merge("RGB", (image, image.rotate(90), image.rotate(45 + number)))
    data = io.BytesIO()
    if kind == "WEBP":
        image.save(data, kind, lossless=True, quality=0, method=0)
    elif kind == "JPEG":
        image.convert("CMYK").save(data, kind, progressive=True, quality=95)
    else:
        image.save(data, kind)
    return data.getvalue()


def test_a_flood_of_the_largest_stays_below_what_was_announced(tmp_path: Path) -> None:
    """Limits are small, so that what is not in the sum would show."""
    bodies = [picture(kind, number) for number in range(2) for kind in ("WEBP", "JPEG", "BMP")]
    with serving(
        tmp_path,
        zoo_threads=2,
        zoo_max_pixels=SIDE * SIDE,
        zoo_max_body_bytes=SIDE * SIDE * 3 + 100,
        zoo_max_bodies_bytes=60_000_000,
        zoo_queue_crops=300,
        zoo_max_connections=100,
    ) as server:
        line = server.logged("memory ceiling of this worker: ")
        terms = {
            name: server.metric(f'zoo_memory_ceiling_bytes{{term="{name}"}}')
            for name in (
                *("base", "models", "runs", "pictures", "bodies", "queue", "connections"),
                *("margin", "grpc_messages"),
            )
        }
        assert all(size > 0 for name, size in terms.items() if name != "models")
        assert terms["pictures"] == 2 * SIDE * SIDE * 20
        ceiling = sum(terms.values()) - terms["grpc_messages"]
        assert f"{ceiling / 1e6:,.0f} MB (base " in line
        assert f"not in the sum: {terms['grpc_messages'] / 1e6:,.0f} MB of gRPC messages" in line
        assert "memory ceiling" not in server.log.replace(line, "")  # this machine has so much
        (worker,) = server.workers()
        peak, done = 0, threading.Event()

        def watch(process: psutil.Process) -> None:
            nonlocal peak
            while not done.wait(0.005):
                peak = max(peak, process.memory_info().rss)

        def ask(number: int) -> int:
            protocol = ("center", "center", "ten_crop")[number % 3]
            answer = httpx.post(
                f"{server.url}/classify?protocol={protocol}",
                content=bodies[number % len(bodies)],
                timeout=120,
            )
            return answer.status_code

        watcher = threading.Thread(target=watch, args=(worker,))
        watcher.start()
        try:
            with ThreadPoolExecutor(16) as clients:
                statuses = set(clients.map(ask, range(PICTURES)))
        finally:
            done.set()
            watcher.join()
    assert 200 in statuses
    assert statuses <= {200, 429, 504}
    assert terms["base"] < peak < ceiling, (terms, peak)
