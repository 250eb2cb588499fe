"""Watches of health: there is room for so many, and one that has ended leaves its place."""

from __future__ import annotations

from typing import Any, cast

import pytest
from grpc_health.v1 import health_pb2

from service.errors import Overloaded
from service.transports.grpc.health import MAX_WATCHES, Health

States = health_pb2.HealthCheckResponse
ASKED = health_pb2.HealthCheckRequest(service="a")


async def test_ended_watches_leave_their_place() -> None:
    health = Health(["a"])
    health.report(True)

    def watch() -> Any:
        return health.Watch(ASKED, cast(Any, None))

    open_ones = [watch() for _ in range(MAX_WATCHES)]
    for each in open_ones:
        assert (await anext(each)).status == States.SERVING
    with pytest.raises(Overloaded, match=f"there are {MAX_WATCHES} watches"):
        await anext(watch())
    await open_ones[0].aclose()
    another = watch()
    assert (await anext(another)).status == States.SERVING
    with pytest.raises(Overloaded):
        await anext(watch())
    for each in (*open_ones[1:], another):
        await each.aclose()
    for _ in range(2):  # all have ended: there is room for as many again
        again = [watch() for _ in range(MAX_WATCHES)]
        for each in again:
            assert (await anext(each)).status == States.SERVING
        for each in again:
            await each.aclose()


@pytest.mark.parametrize(
    ("ready", "stopping", "status"),
    [
        (True, False, States.SERVING),
        (False, False, States.NOT_SERVING),
        (True, True, States.NOT_SERVING),
        (False, True, States.NOT_SERVING),
    ],
)
async def test_who_is_ready_and_does_not_stop_serves(
    ready: bool, stopping: bool, status: int
) -> None:
    health = Health(["a"])
    health.report(ready)
    if stopping:
        health.stop()
    assert (await health.Check(ASKED, cast(Any, None))).status == status
    listed = await health.List(health_pb2.HealthListRequest(), cast(Any, None))
    assert {each.status for each in listed.statuses.values()} == {status}
