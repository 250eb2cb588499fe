"""HTTP's server ends uvicorn once, however often it is stopped."""

from __future__ import annotations

from service.config.settings import Settings
from service.dataplane.dataplane import DataPlane
from service.transports.http.server import HttpServer


async def test_a_stop_ends_uvicorn_once_and_waits_for_nobody() -> None:
    calls: list[str] = []
    server = HttpServer(
        DataPlane(Settings()), None, lambda: calls.append("listen"), lambda: calls.append("end")
    )
    await server.start()
    server.drain()
    await server.stop()
    await server.stop()
    assert calls == ["listen", "end"]
