"""Watching the health of the server, which ends with it."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from grpc_health.v1 import health_pb2

from service.errors import NotReady
from service.transports.grpc.health import Health

States = health_pb2.HealthCheckResponse


def test_a_stop_while_a_watch_is_answered_is_told_before_the_end() -> None:
    async def watched() -> None:
        health = Health(["a"])
        health.report(True)
        watch = health.Watch(health_pb2.HealthCheckRequest(service="a"), cast(Any, None))
        assert (await anext(watch)).status == States.SERVING
        health.stop()  # the watch has not gone on since
        assert (await anext(watch)).status == States.NOT_SERVING
        with pytest.raises(NotReady):
            await anext(watch)

    asyncio.run(watched())
