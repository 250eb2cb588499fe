"""Errors as statuses of gRPC, with the details that clients act on."""

from __future__ import annotations

import pytest
from google.rpc import error_details_pb2

from service.errors import Overloaded
from service.transports.grpc.status import DOMAIN, status_of


@pytest.mark.parametrize("seconds", [None, 1, 90])
def test_when_to_try_again(seconds: int | None) -> None:
    status = status_of(Overloaded("full", retry_after=seconds))
    assert (status.code, status.message) == (8, "full")  # RESOURCE_EXHAUSTED
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    assert status.details[0].Unpack(info)
    assert (info.reason, info.domain) == ("overloaded", DOMAIN)
    assert len(status.details) == (1 if seconds is None else 2)
    if seconds is not None:
        assert status.details[1].Unpack(retry)
        assert retry.retry_delay.seconds == seconds
