"""Defines every error that a client can get, with its code, HTTP and gRPC status.

This file *is* the table of what can go wrong for a client. Transports translate and add nothing:
HTTP writes RFC 9457 ``application/problem+json``, gRPC the status of the same class.
"""

from __future__ import annotations

import re
from typing import ClassVar

ALL: list[type[ZooError]] = []
"""Every error below, in their order here."""


class ZooError(Exception):
    """An error that the client is told. ``detail`` is one sentence for a person.

    The code and the title are the words of its class' name, as in `bad_parameter`.
    """

    code: ClassVar[str] = "internal"
    title: ClassVar[str] = "Internal error"
    http_status: ClassVar[int] = 500
    grpc_status: ClassVar[str] = "INTERNAL"

    def __init_subclass__(cls, http: int = 0, grpc: str = "") -> None:
        """``http`` and ``grpc`` are the statuses; a class without them is none by itself."""
        if http:
            cls.code = re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()
            cls.title = vars(cls).get("title", cls.code.replace("_", " ").capitalize())
            cls.http_status, cls.grpc_status = http, grpc
            ALL.append(cls)

    def __init__(self, detail: str, *, retry_after: int | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retry_after = retry_after
        """Seconds after which the client should try again; None where nobody knows."""


class ClientError(ZooError):
    """The request itself cannot be answered; the same request will fail again."""


class ServerError(ZooError):
    """The request was fine, but it cannot be answered now."""


class BadParameter(ClientError, http=400, grpc="INVALID_ARGUMENT"):
    """A query parameter, form field or header has a value that is not allowed."""


class Unauthorized(ClientError, http=401, grpc="UNAUTHENTICATED"):
    """The service asks for a key, and the request has none that it knows."""


class Forbidden(ClientError, http=403, grpc="PERMISSION_DENIED"):
    """The key is known, but the request needs an administrator's key."""


class UnknownModel(ClientError, http=404, grpc="NOT_FOUND"):
    """No model of that name and version is in the repository."""


class ManagementClosed(ClientError, http=403, grpc="PERMISSION_DENIED"):
    """The operator has not allowed clients to load, unload and list models (ZOO_MANAGEMENT)."""


class NotFound(ClientError, http=404, grpc="UNIMPLEMENTED"):
    """No route has this path."""


class MethodNotAllowed(ClientError, http=405, grpc="UNIMPLEMENTED"):
    """The route exists, but not for this method."""


class RequestTimeout(ClientError, http=408, grpc="DEADLINE_EXCEEDED"):
    """The client takes too long to send its request: RFC 9110, section 15.5.9."""


class BodyTooLarge(ClientError, http=413, grpc="RESOURCE_EXHAUSTED"):
    """The request has more bytes, or more pictures, than the limit."""


class PictureTooLarge(ClientError, http=413, grpc="INVALID_ARGUMENT"):
    """The picture's header announces more pixels than the limit."""


class UnsupportedFormat(ClientError, http=415, grpc="INVALID_ARGUMENT"):
    """The bytes are none of the picture formats that the service reads."""


class UnsupportedEncoding(ClientError, http=415, grpc="INVALID_ARGUMENT"):
    """The body has a Content-Encoding that is not decoded here; the answer names those that are."""


class MisdirectedRequest(ClientError, http=421, grpc="PERMISSION_DENIED"):
    """The request names a host that this service does not answer for: RFC 9110, 15.5.20."""


class UndecodablePicture(ClientError, http=422, grpc="INVALID_ARGUMENT"):
    """The format is known, but the picture is empty, broken or truncated."""


class UnsupportedTransferCoding(ClientError, http=501, grpc="UNIMPLEMENTED"):
    """The body has a Transfer-Encoding that is not decoded here: RFC 9112, section 6.1."""


class Overloaded(ServerError, http=429, grpc="RESOURCE_EXHAUSTED"):
    """The server has no room now for more waiting crops, bytes of bodies or gRPC calls, or cannot
    answer before the deadline.
    """


class NotReady(ServerError, http=503, grpc="UNAVAILABLE"):
    """The model is in the repository but not loaded, or the service is starting or stopping."""


class DeadlineExceeded(ServerError, http=504, grpc="DEADLINE_EXCEEDED"):
    """The request's deadline passed before it was answered."""


class Internal(ServerError, http=500, grpc="INTERNAL"):
    """The service has a fault; the log has the details under the request's id."""

    title = "Internal error"


def let_go(error: BaseException) -> None:
    """Drop the traceback, the cause and the context of an error that was handled.

    Their frames hold the request's pictures and often the error itself: a reference cycle, which
    the garbage collector would free much later.
    """
    error.__traceback__ = error.__cause__ = error.__context__ = None
