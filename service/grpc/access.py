"""Keys over gRPC: which method needs which, and the refusal before a message is read."""

from __future__ import annotations

import grpc

from service.access import Access, Need
from service.errors import ZooError

_OPEN = (
    "/grpc.health.v1.",
    "/inference.GRPCInferenceService/ServerLive",
    "/inference.GRPCInferenceService/ServerReady",
)
_ADMIN = "/inference.GRPCInferenceService/Repository"
TRANSPORT = "grpc"


def need_of(method: str) -> Need:
    """What a call of this method (``/package.Service/Method``) must show, when keys are set."""
    if method.startswith(_OPEN):
        return Need.NOTHING
    return Need.ADMIN if method.startswith(_ADMIN) else Need.KEY


def refusal(access: Access, details: grpc.HandlerCallDetails) -> ZooError | None:
    """Why this call is refused, or None."""
    given = (str(value) for name, value in details.invocation_metadata if name == "authorization")
    shown = next(given, None)
    try:
        access.check(need_of(details.method), shown, transport=TRANSPORT)
    except ZooError as error:
        return error
    return None
