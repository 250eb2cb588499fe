"""Keys over gRPC: what a call of each method must show."""

from __future__ import annotations

from service.transports.auth import Need

_OPEN = (
    "/grpc.health.v1.",
    "/inference.GRPCInferenceService/ServerLive",
    "/inference.GRPCInferenceService/ServerReady",
)
_ADMIN = "/inference.GRPCInferenceService/Repository"


def need_of(method: str) -> Need:
    """What a call of this method (``/package.Service/Method``) must show, when keys are set."""
    if method.startswith(_OPEN):
        return Need.NOTHING
    return Need.ADMIN if method.startswith(_ADMIN) else Need.KEY
