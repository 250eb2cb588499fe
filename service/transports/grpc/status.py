"""Translates errors into gRPC statuses with google.rpc details."""

from __future__ import annotations

import grpc
from google.protobuf import duration_pb2
from google.rpc import error_details_pb2, status_pb2

from service.errors import ZooError

DOMAIN = "imagenet-zoo"
"""The domain of every google.rpc.ErrorInfo; its reason is the code of the problem document."""
DETAILS_KEY = "grpc-status-details-bin"
_MAX_MESSAGE = 1024
"""How many characters of a detail are sent: clients limit HTTP/2 trailers to some KB."""


def code_of(error: ZooError) -> grpc.StatusCode:
    """Return the canonical code of an error, from `service.errors`."""
    return grpc.StatusCode[error.grpc_status]


def status_of(error: ZooError) -> status_pb2.Status:
    """Return the status with an ErrorInfo and, where the client should try again, a RetryInfo."""
    number: int = code_of(error).value[0]
    status = status_pb2.Status(code=number, message=message_of(error))
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason=error.code, domain=DOMAIN))
    if error.retry_after is not None:
        delay = duration_pb2.Duration(seconds=error.retry_after)
        status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    return status


def message_of(error: ZooError) -> str:
    """Return the detail, cut to 1024 characters; what UTF-8 cannot encode becomes `?`."""
    return error.detail[:_MAX_MESSAGE].encode("utf-8", "replace").decode()
