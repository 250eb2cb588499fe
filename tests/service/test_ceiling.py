"""The memory that a worker may take: the sum of its limits holds under a flood."""

from __future__ import annotations

import io
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest
from PIL import Image

from service.config import cgroup
from service.repository import memory_budget as announced
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


def test_a_ceiling_above_what_there_is_is_said() -> None:
    assert announced.above(500_000_000, 2, 1_000_000_000) == ""
    one = announced.above(3_512_000_000, 1, 2_000_000_000)
    assert one.startswith(
        "the memory ceiling of this worker is 3,512 MB, more than the 2,000 MB that this container"
    )
    assert "ceilings of 4 workers add up to 4,000 MB" in announced.above(1_000_000_000, 4, 1 << 31)


@pytest.mark.parametrize(
    ("own", "files", "limit"),
    [
        # in a container its own group is the root of what is mounted; version 2, then 1
        ("0::/\n", {"memory.max": "2000"}, 2000),
        ("4:memory:/docker/a\n", {"memory/memory.limit_in_bytes": "3000"}, 3000),
        # elsewhere the least of a group and all around it
        ("0::/a/b\n", {"a/b/memory.max": "max", "a/memory.max": "700"}, 700),
        ("0::/a/b\n", {"a/b/memory.max": "600", "a/memory.max": "700"}, 600),
        (
            "9:cpu,cpuacct:/x\n4:memory:/a/b\n0::/\n",
            {"memory/a/b/memory.limit_in_bytes": "900", "memory/a/memory.limit_in_bytes": "800"},
            800,
        ),
        ("0::/../other\n", {"memory.max": "500"}, 500),
        ("0::/a\n", {"a/memory.max": "max"}, None),
        (None, {}, None),
    ],
)
def test_the_limit_of_a_container(
    own: str | None, files: dict[str, str], limit: int | None, tmp_path: Path
) -> None:
    for name, text in files.items():
        path = tmp_path / "mounted" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    if own is not None:
        (tmp_path / "own").write_text(own)
    assert cgroup.memory_limit(tmp_path / "own", tmp_path / "mounted") == limit
