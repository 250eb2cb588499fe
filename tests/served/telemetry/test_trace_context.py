"""The trace that a request says it belongs to, in the log of both ports."""

from __future__ import annotations

import json
from collections.abc import Iterator

import grpc
import pytest

from service.transports.grpc.protos import classifier_pb2 as messages
from service.transports.grpc.protos import classifier_pb2_grpc
from tests.harness.traceparents import INVALID, TRACE, VALID
from tests.photographs import CHELSEA
from tests.server import Server, serving


@pytest.fixture(scope="module", params=["json", "console"])
def logged(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    with serving(
        tmp_path_factory.mktemp(request.param),
        zoo_default_model="lenet5",
        zoo_load="used",
        zoo_log_format=request.param,
    ) as running:
        yield running


def logged_trace(server: Server, request_id: str) -> str | None:
    """The trace_id in the access line of a request."""
    line = server.logged(request_id)
    if line.startswith("{"):
        return json.loads(line).get("trace_id")
    fields = dict(field.split("=", 1) for field in line.split() if "=" in field)
    return fields.get("trace_id")


@pytest.mark.parametrize(
    ("number", "given", "expected"),
    [(0, VALID[0], TRACE), (1, VALID[3], TRACE), (2, INVALID[2], None), (3, None, None)],
)
def test_it_is_in_the_log_of_both_ports(
    logged: Server, number: int, given: str | None, expected: str | None
) -> None:
    sent = [] if given is None else [("traceparent", given)]
    for path in ("/classify", "/classify?top_k=0"):
        request_id = f"http-{number}-{len(path)}"
        headers = [*sent, ("X-Request-ID", request_id)]
        logged.client.post(path, content=CHELSEA.read_bytes(), headers=headers)
        assert logged_trace(logged, request_id) == expected
    with grpc.insecure_channel(logged.grpc_address) as channel:
        stub = classifier_pb2_grpc.ClassifierStub(channel)
        stub.ListModels(
            messages.ListModelsRequest(), metadata=[*sent, ("x-request-id", f"grpc-{number}-")]
        )
    assert logged_trace(logged, f"grpc-{number}-") == expected


def test_two_of_them_are_none(logged: Server) -> None:
    headers = [("traceparent", VALID[0]), ("traceparent", VALID[1]), ("X-Request-ID", "twice")]
    assert logged.client.get("/models", headers=headers).status_code == 200
    assert logged_trace(logged, "twice") is None
