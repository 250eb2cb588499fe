"""Says which key a call of each gRPC method needs."""

from __future__ import annotations

from service.transports.auth import Need

_OPEN = (
    "/grpc.health.v1.",
    "/inference.GRPCInferenceService/ServerLive",
    "/inference.GRPCInferenceService/ServerReady",
)
_ADMIN = "/inference.GRPCInferenceService/Repository"


def need_of(method: str) -> Need:
    """Return the key that a call of this method (``/package.Service/Method``) needs.

    It holds where keys are set.
    """
    if method.startswith(_OPEN):
        return Need.NOTHING
    return Need.ADMIN if method.startswith(_ADMIN) else Need.KEY
