"""Defines every error that a client can get, with its code, HTTP and gRPC status.

This file *is* the table of what can go wrong for a client. Transports translate and add nothing:
HTTP writes RFC 9457 ``application/problem+json``, gRPC the status of the same class.
"""

from __future__ import annotations

from typing import ClassVar


class ZooError(Exception):
    """An error that the client is told. ``detail`` is one sentence for a person."""

    code: ClassVar[str] = "internal"
    title: ClassVar[str] = "Internal error"
    http_status: ClassVar[int] = 500
    grpc_status: ClassVar[str] = "INTERNAL"

    def __init__(self, detail: str, *, retry_after: int | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retry_after = retry_after
        """Seconds after which the client should try again; None where nobody knows."""


class ClientError(ZooError):
    """The request itself cannot be answered; the same request will fail again."""


class ServerError(ZooError):
    """The request was fine, but it cannot be answered now."""


class BadParameter(ClientError):
    """A query parameter, form field or header has a value that is not allowed."""

    code = "bad_parameter"
    title = "Bad parameter"
    http_status = 400
    grpc_status = "INVALID_ARGUMENT"


class Unauthorized(ClientError):
    """The service asks for a key, and the request has none that it knows."""

    code = "unauthorized"
    title = "Unauthorized"
    http_status = 401
    grpc_status = "UNAUTHENTICATED"


class Forbidden(ClientError):
    """The key is known, but the request needs an administrator's key."""

    code = "forbidden"
    title = "Forbidden"
    http_status = 403
    grpc_status = "PERMISSION_DENIED"


class UnknownModel(ClientError):
    """No model of that name and version is in the repository."""

    code = "unknown_model"
    title = "Unknown model"
    http_status = 404
    grpc_status = "NOT_FOUND"


class ManagementClosed(ClientError):
    """The operator has not allowed clients to load, unload and list models (ZOO_MANAGEMENT)."""

    code = "management_closed"
    title = "Management closed"
    http_status = 403
    grpc_status = "PERMISSION_DENIED"


class NotFound(ClientError):
    """No route has this path."""

    code = "not_found"
    title = "Not found"
    http_status = 404
    grpc_status = "UNIMPLEMENTED"


class MethodNotAllowed(ClientError):
    """The route exists, but not for this method."""

    code = "method_not_allowed"
    title = "Method not allowed"
    http_status = 405
    grpc_status = "UNIMPLEMENTED"


class RequestTimeout(ClientError):
    """The client takes too long to send its request: RFC 9110, section 15.5.9."""

    code = "request_timeout"
    title = "Request timeout"
    http_status = 408
    grpc_status = "DEADLINE_EXCEEDED"


class BodyTooLarge(ClientError):
    """The request has more bytes, or more pictures, than the limit."""

    code = "body_too_large"
    title = "Body too large"
    http_status = 413
    grpc_status = "RESOURCE_EXHAUSTED"


class PictureTooLarge(ClientError):
    """The picture's header announces more pixels than the limit."""

    code = "picture_too_large"
    title = "Picture too large"
    http_status = 413
    grpc_status = "INVALID_ARGUMENT"


class UnsupportedFormat(ClientError):
    """The bytes are none of the picture formats that the service reads."""

    code = "unsupported_format"
    title = "Unsupported format"
    http_status = 415
    grpc_status = "INVALID_ARGUMENT"


class UnsupportedEncoding(ClientError):
    """The body has a Content-Encoding that is not decoded here; the answer names those that are."""

    code = "unsupported_encoding"
    title = "Unsupported encoding"
    http_status = 415
    grpc_status = "INVALID_ARGUMENT"


class MisdirectedRequest(ClientError):
    """The request names a host that this service does not answer for: RFC 9110, 15.5.20."""

    code = "misdirected_request"
    title = "Misdirected request"
    http_status = 421
    grpc_status = "PERMISSION_DENIED"


class UndecodablePicture(ClientError):
    """The format is known, but the picture is empty, broken or truncated."""

    code = "undecodable_picture"
    title = "Undecodable picture"
    http_status = 422
    grpc_status = "INVALID_ARGUMENT"


class UnsupportedTransferCoding(ClientError):
    """The body has a Transfer-Encoding that is not decoded here: RFC 9112, section 6.1."""

    code = "unsupported_transfer_coding"
    title = "Unsupported transfer coding"
    http_status = 501
    grpc_status = "UNIMPLEMENTED"


class Overloaded(ServerError):
    """The server has no room now for more waiting crops, bytes of bodies or gRPC calls, or cannot
    answer before the deadline.
    """

    code = "overloaded"
    title = "Overloaded"
    http_status = 429
    grpc_status = "RESOURCE_EXHAUSTED"


class NotReady(ServerError):
    """The model is in the repository but not loaded, or the service is starting or stopping."""

    code = "not_ready"
    title = "Not ready"
    http_status = 503
    grpc_status = "UNAVAILABLE"


class DeadlineExceeded(ServerError):
    """The request's deadline passed before it was answered."""

    code = "deadline_exceeded"
    title = "Deadline exceeded"
    http_status = 504
    grpc_status = "DEADLINE_EXCEEDED"


class Internal(ServerError):
    """The service has a fault; the log has the details under the request's id."""


ALL: tuple[type[ZooError], ...] = (
    BadParameter,
    Unauthorized,
    Forbidden,
    UnknownModel,
    ManagementClosed,
    NotFound,
    MethodNotAllowed,
    RequestTimeout,
    BodyTooLarge,
    PictureTooLarge,
    UnsupportedFormat,
    UnsupportedEncoding,
    MisdirectedRequest,
    UndecodablePicture,
    UnsupportedTransferCoding,
    Overloaded,
    NotReady,
    DeadlineExceeded,
    Internal,
)


def let_go(error: BaseException) -> None:
    """Drop the traceback, the cause and the context of an error that was handled.

    Their frames hold the request's pictures and often the error itself: a reference cycle, which
    the garbage collector would free much later.
    """
    error.__traceback__ = error.__cause__ = error.__context__ = None
