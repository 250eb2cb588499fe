"""gRPC with real clients: answers, errors, ids, health, reflection."""

from __future__ import annotations

import grpc
from google.rpc import error_details_pb2

from service.errors import ALL, Overloaded
from service.transports.grpc.status import status_of

PROTOCOLS = [("efficientnet_lite0", "center"), ("efficientnet_lite0", "ten_crop")]
PROTOCOLS += [("lenet5", "center")]


def test_every_error_has_a_status_of_its_row() -> None:
    for kind in ALL:
        status = status_of(kind("why"))
        assert status.code == grpc.StatusCode[kind.grpc_status].value[0]
    retry = error_details_pb2.RetryInfo()
    assert status_of(Overloaded("full", retry_after=3)).details[1].Unpack(retry)
    assert retry.retry_delay.seconds == 3
