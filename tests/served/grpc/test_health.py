"""Watching the health of the server, which ends with it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.server import Server, serving

States = health_pb2.HealthCheckResponse
QUICK: dict[str, Any] = {"zoo_default_model": "lenet5", "zoo_load": "used", "zoo_max_batch": 1}
SECONDS = 15
"""Patience; a stop with nothing in flight takes half a second, the grace is ZOO_DEADLINE_MS."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serving(tmp_path, **QUICK) as running:
        yield running


def test_a_watch_tells_of_the_stop_and_does_not_delay_it(server: Server) -> None:
    with grpc.insecure_channel(server.grpc_address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        names = ("", "zoo.v1.Classifier", "inference.GRPCInferenceService")
        watches = {
            name: stub.Watch(health_pb2.HealthCheckRequest(service=name), timeout=60)
            for name in (*names, "nothing")
        }
        for name, watch in watches.items():
            expected = States.SERVING if name in names else States.SERVICE_UNKNOWN
            assert next(watch).status == expected
        server.process.send_signal(signal.SIGTERM)
        for name, watch in watches.items():
            if name in names:
                assert next(watch).status == States.NOT_SERVING
            with pytest.raises(grpc.RpcError) as ended:
                next(watch)
            assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
        server.process.wait(SECONDS)


def test_a_watch_that_is_left_is_no_matter(server: Server) -> None:
    with grpc.insecure_channel(server.grpc_address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        states = stub.List(health_pb2.HealthListRequest(), timeout=SECONDS).statuses
        assert set(states) == {"", "zoo.v1.Classifier", "inference.GRPCInferenceService"}
        assert {each.status for each in states.values()} == {States.SERVING}
        for _ in range(3):
            watch = stub.Watch(health_pb2.HealthCheckRequest())
            assert next(watch).status == States.SERVING
            watch.cancel()
        answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=SECONDS)
        assert answer.status == States.SERVING
    server.process.send_signal(signal.SIGTERM)
    server.process.wait(SECONDS)
    assert "Traceback" not in server.log
